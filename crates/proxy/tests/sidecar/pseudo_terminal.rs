//! The program on a terminal of its own, and what that shows.

use std::{
    ffi::OsStr,
    fs::File,
    io::{Read, Write},
    num::NonZeroU16,
    os::fd::AsFd,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use harness::PATIENCE;
use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use tokio::{
    process::{Child, Command},
    sync::Notify,
    time,
};
use vt100::{Parser, Screen};

/// A terminal that a program writes to.
pub(crate) struct Terminal {
    /// The end at which a person sits.
    master: File,
    child: Child,
    shown: Arc<Shown>,
    /// What the terminal itself did with keys before the program came.
    modes: LocalModes,
}

struct Shown {
    parser: Mutex<Parser>,
    /// Nothing will be written any more.
    is_over: AtomicBool,
    /// Something was written, or nothing will be.
    news: Notify,
}

fn cells(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).unwrap()
}

impl Terminal {
    /// Starts `kling-balancer` on a terminal of so many columns and rows.
    pub(crate) fn start(args: &[&str], env: &[(&str, &str)], size: (u16, u16)) -> Self {
        Self::run(env!("CARGO_BIN_EXE_kling-balancer"), args, env, size)
    }

    /// Starts a program on a terminal of so many columns and rows.
    pub(crate) fn run(
        program: impl AsRef<OsStr>,
        args: &[&str],
        env: &[(&str, &str)],
        (columns, rows): (u16, u16),
    ) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        resize(&master, columns, rows);
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(&*name, flags, Mode::empty()).unwrap();
        let modes = tcgetattr(&slave).unwrap().local_modes;
        // The terminal has to be the one that controls the program, or a new size would not be told.
        let mut command = Command::new("setsid");
        command
            .arg("--ctty")
            .arg(program)
            .args(args)
            .env_clear()
            .env("TERM", "xterm-256color")
            .envs(env.iter().copied())
            .kill_on_drop(true);
        command
            .stdin(Stdio::from(slave.try_clone().unwrap()))
            .stdout(Stdio::from(slave.try_clone().unwrap()))
            .stderr(Stdio::from(slave));
        let child = command.spawn().unwrap();
        let shown = Arc::new(Shown {
            parser: Mutex::new(Parser::new(cells(rows), cells(columns), 0)),
            is_over: AtomicBool::new(false),
            news: Notify::new(),
        });
        let mut reader = File::from(master.try_clone().unwrap());
        let written = Arc::clone(&shown);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It cannot be read any more once the program has ended.
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                written.parser.lock().unwrap().process(&bytes[..count]);
                written.news.notify_one();
            }
            written.is_over.store(true, Ordering::SeqCst);
            written.news.notify_one();
        });
        Self {
            master: File::from(master),
            child,
            shown,
            modes,
        }
    }

    /// Waits until the screen is so, and returns its text.
    pub(crate) async fn until(&self, is_met: impl Fn(&Screen) -> bool) -> String {
        let met = async {
            loop {
                if let Some(text) = self.look(|screen| is_met(screen).then(|| screen.contents())) {
                    return text;
                }
                self.shown.news.notified().await;
            }
        };
        let met = time::timeout(PATIENCE, met).await;
        met.unwrap_or_else(|_elapsed| panic!("it shows\n{}", self.look(Screen::contents)))
    }

    /// Waits until the screen shows all of these texts.
    pub(crate) async fn until_shows(&self, texts: &[&str]) -> String {
        self.until(|screen| {
            let contents = screen.contents();
            texts.iter().all(|text| contents.contains(text))
        })
        .await
    }

    fn look<T>(&self, read: impl FnOnce(&Screen) -> T) -> T {
        read(self.shown.parser.lock().unwrap().screen())
    }

    /// Presses keys.
    pub(crate) fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Drags the corner of the window.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        let mut parser = self.shown.parser.lock().unwrap();
        parser.set_size(cells(rows), cells(columns));
        resize(&self.master, columns, rows);
    }

    /// The id of the program.
    pub(crate) fn pid(&self) -> String {
        self.child.id().unwrap().to_string()
    }

    /// Waits for the end of the program. Returns its exit code and what is on the screen, which must be the one from
    /// before, of a terminal that does with keys what it did then.
    pub(crate) async fn end(mut self) -> (Option<i32>, String) {
        let ended = time::timeout(PATIENCE, self.child.wait()).await;
        let status = ended.expect("it goes on").unwrap();
        let text = self
            .until(|_| self.shown.is_over.load(Ordering::SeqCst))
            .await;
        let is_own = self.look(|screen| screen.alternate_screen() || screen.hide_cursor());
        assert!(!is_own, "it shows\n{text}");
        let modes = tcgetattr(&self.master).unwrap().local_modes;
        assert_eq!(modes, self.modes, "the terminal is not as it was");
        (status.code(), text)
    }
}

fn resize(terminal: impl AsFd, columns: u16, rows: u16) {
    let size = Winsize {
        ws_col: columns,
        ws_row: rows,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).unwrap();
}
