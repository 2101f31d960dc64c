//! The tokens of clients and of the upstream, and the files that hold them.
//!
//! The same functions read the files at the start and whenever they change.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use secrecy::{ExposeSecret, SecretString};

use super::value;

/// The largest file of tokens: some thousand lines.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// A token that a client may show.
#[derive(Clone, Debug)]
pub struct ClientToken {
    /// What the client is called, if the file names it.
    pub name: Option<Arc<str>>,
    /// The token.
    pub token: SecretString,
}

/// A file with a token a line.
#[derive(Clone, Debug)]
pub struct TokenFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it held when it was read last.
    pub tokens: Vec<ClientToken>,
}

/// The tokens of all clients.
#[derive(Clone, Debug, Default)]
pub struct ClientTokens {
    /// Those in the settings themselves.
    pub inline: Vec<ClientToken>,
    /// The file with further ones.
    pub file: Option<TokenFile>,
    /// The file with those that may only look.
    pub read_file: Option<TokenFile>,
}

impl ClientTokens {
    /// Those that may call everything.
    pub fn full(&self) -> impl Iterator<Item = &ClientToken> {
        self.inline.iter().chain(listed(self.file.as_ref()))
    }

    /// Those that may only look.
    pub fn read_only(&self) -> impl Iterator<Item = &ClientToken> {
        listed(self.read_file.as_ref())
    }

    /// Whether there are none: then none has to be shown.
    pub fn is_empty(&self) -> bool {
        self.full().chain(self.read_only()).next().is_none()
    }

    /// Checks that no token may both call everything and only look.
    ///
    /// # Errors
    /// What to do, without the token.
    pub fn check(&self) -> Result<(), String> {
        for (idx, read_only) in self.read_only().enumerate() {
            let token = read_only.token.expose_secret();
            if self.full().any(|full| full.token.expose_secret() == token) {
                return Err(format!(
                    "expected tokens that are not in auth.tokens or auth.tokens_file, too; take token {} \
                     of the file out of one of them",
                    idx + 1
                ));
            }
        }
        Ok(())
    }
}

fn listed(file: Option<&TokenFile>) -> impl Iterator<Item = &ClientToken> {
    file.into_iter().flat_map(|file| &file.tokens)
}

impl TokenFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// What is wrong with it, without a word of what it holds.
    pub fn read(path: PathBuf) -> Result<Self, String> {
        let tokens = client_tokens(&path)?;
        Ok(Self { path, tokens })
    }
}

impl ClientToken {
    pub(super) fn unnamed(text: &str) -> Result<Self, String> {
        let token = value::client_token(text)?;
        Ok(Self { name: None, token })
    }

    /// Reads `token` or `name token`.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        match text.trim().split_once(char::is_whitespace) {
            Some((name, token)) => Ok(Self {
                name: Some(name.into()),
                ..Self::unnamed(token)?
            }),
            None => Self::unnamed(text),
        }
    }
}

/// Reads the file that holds the token of the upstream.
///
/// # Errors
/// What is wrong with it, without a word of what it holds.
pub fn upstream_token(path: &Path) -> Result<SecretString, String> {
    value::token(&text(path)?).map_err(|problem| format!("the file holds no token; {problem}"))
}

/// Reads a file with a client token a line.
///
/// # Errors
/// What is wrong with it, without a word of what it holds.
pub fn client_tokens(path: &Path) -> Result<Vec<ClientToken>, String> {
    let text = text(path)?;
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    let read = |(idx, line)| {
        ClientToken::read(line).map_err(|problem| format!("line {}: {problem}", idx + 1))
    };
    lines.map(read).collect()
}

/// Whether every user of the machine can read the file. False where the system cannot tell.
pub fn is_readable_by_all(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.mode() & 0o004 != 0)
}

fn text(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let text =
        read_bounded(path).map_err(|error| format!("the file {shown} cannot be read ({error})"))?;
    // Some editors begin a file with a byte order mark.
    let text = text.trim_start_matches('\u{feff}');
    if text.trim().is_empty() {
        return Err(format!("the file {shown} is empty"));
    }
    Ok(text.to_owned())
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let mut file = File::open(path)?.take(FILE_BYTES_MAX + 1);
    if file.read_to_string(&mut text)? as u64 > FILE_BYTES_MAX {
        let problem = format!("larger than {FILE_BYTES_MAX} bytes");
        return Err(io::Error::other(problem));
    }
    Ok(text)
}
