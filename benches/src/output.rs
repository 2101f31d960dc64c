//! Where results go: the terminal and a file of the day.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the program talks to its user"
)]

use std::{
    cell::RefCell,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Results on standard output and in a file; progress on standard error.
#[derive(Debug)]
pub(crate) struct Output {
    path: PathBuf,
    file: File,
    /// Rows of the table for readers.
    rows: RefCell<Vec<String>>,
}

impl Output {
    /// A new file in the directory of today in `runs`: `rig.txt`, or the first free `rig-2.txt` and so on.
    pub(crate) fn create(runs: &Path) -> io::Result<Self> {
        let today = jiff::Timestamp::now().to_string();
        let (day, _) = today.split_once('T').unwrap_or((&today, ""));
        let directory = runs.join(day);
        fs::create_dir_all(&directory)?;
        let mut number = 1;
        loop {
            let name = match number {
                1 => "rig.txt".to_owned(),
                _ => format!("rig-{number}.txt"),
            };
            let path = directory.join(name);
            match File::create_new(&path) {
                Ok(file) => {
                    let rows = RefCell::default();
                    return Ok(Self { path, file, rows });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// A result.
    pub(crate) fn say(&self, text: &str) -> io::Result<()> {
        println!("{text}");
        writeln!(&self.file, "{text}")
    }

    /// A row of the table for readers: what it is, the figure, what is beside it, the ratio.
    pub(crate) fn keep_row(&self, row: String) {
        self.rows.borrow_mut().push(row);
    }

    /// The table for readers.
    pub(crate) fn say_rows(&self) -> io::Result<()> {
        let head = "\n== for README.md\n| | sidecar | beside it | ratio |\n|---|---|---|---|";
        self.say(&format!("{head}\n{}", self.rows.borrow().join("\n")))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// What is under way.
pub(crate) fn progress(text: &str) {
    eprintln!("# {text}");
}
