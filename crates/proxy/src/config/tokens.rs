//! The tokens of clients and of the upstream, and the files that hold them.
//!
//! The same functions read the files at the start and whenever they change.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use secrecy::SecretString;

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

/// The tokens of all clients.
#[derive(Clone, Debug, Default)]
pub struct ClientTokens {
    /// Those in the settings themselves.
    pub inline: Vec<ClientToken>,
    /// The file with further ones.
    pub file: Option<PathBuf>,
    /// Those in the file, as it was read last.
    pub listed: Vec<ClientToken>,
}

impl ClientTokens {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &ClientToken> {
        self.inline.iter().chain(&self.listed)
    }

    /// Whether there are none: then none has to be shown.
    pub fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }
}

impl ClientToken {
    pub(super) fn unnamed(text: &str) -> Result<Self, String> {
        let token = value::token(text)?;
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
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(ClientToken::read).collect()
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
