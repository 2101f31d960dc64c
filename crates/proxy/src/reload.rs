//! Token files that change while the sidecar runs.
//!
//! They are read again when the process is asked to, and by themselves within a minute. A file that cannot be
//! used changes nothing: what was read last stays in force. A changed account file is the fetcher's own
//! business.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use accounts_fetcher::{Credentials, Waker};
use secrecy::ExposeSecret;
use tokio::{
    sync::{Notify, watch},
    task::spawn_blocking,
    time::timeout,
};

use crate::{
    api::Clients,
    config::{
        Config,
        tokens::{self, ClientToken, ClientTokens},
    },
    keyed_hash::HashKey,
    service_manager::{Notice, tell},
};

/// The longest time before a changed file is noticed. Reading some kilobytes so often costs nothing.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

const TOKENS_FILE: &str = "auth.tokens_file";
const READ_TOKENS_FILE: &str = "auth.read_tokens_file";
const UPSTREAM_FILE: &str = "upstream.token_file";

/// Asks for the files to be read again. Any number of requests is answered by one look.
#[derive(Clone, Debug, Default)]
pub struct Reload(Arc<Notify>);

impl Reload {
    /// Asks for it.
    pub fn ask(&self) {
        self.0.notify_one();
    }
}

/// Reads the token files again.
#[derive(Debug)]
pub(crate) struct Reloader {
    upstream: Option<(PathBuf, Credentials)>,
    clients: ClientTokens,
    hashes: HashKey,
    publish_clients: watch::Sender<Arc<Clients>>,
    fetcher: Waker,
    asked: Reload,
    /// The problems that were logged last.
    problems: Vec<String>,
}

impl Reloader {
    /// Replaces `credentials` and the clients that it publishes whenever the files that `config` names
    /// change. `hashes` name clients without names.
    pub(crate) fn new(
        config: &Config,
        credentials: Option<Credentials>,
        fetcher: Waker,
        hashes: HashKey,
    ) -> (Self, watch::Receiver<Arc<Clients>>) {
        for (key, path) in token_files(config) {
            if tokens::is_readable_by_all(path) {
                let file = path.display();
                tracing::warn!(
                    %file,
                    "{key}: every user of this machine can read the file; give it to the sidecar's user \
                     alone (chown, chmod 600)"
                );
            }
        }
        let clients = Arc::new(Clients::new(&config.auth.tokens, &hashes));
        let (publish_clients, published) = watch::channel(clients);
        let reloader = Self {
            upstream: config.upstream.token_file.clone().zip(credentials),
            clients: config.auth.tokens.clone(),
            hashes,
            publish_clients,
            fetcher,
            asked: Reload::default(),
            problems: Vec::new(),
        };
        (reloader, published)
    }

    /// What asks for it.
    pub(crate) fn handle(&self) -> Reload {
        self.asked.clone()
    }

    /// Looks for ever. Cancel-safe.
    pub(crate) async fn run(mut self) {
        loop {
            let asked = self.asked.0.notified();
            let is_asked = timeout(LOOK_INTERVAL, asked).await.is_ok();
            if is_asked {
                tell(Notice::Reloading).await;
            }
            self.look(is_asked).await;
            if is_asked {
                tell(Notice::Reloaded).await;
            }
        }
    }

    async fn look(&mut self, is_asked: bool) {
        let mut problems = Vec::new();
        let mut is_changed = self.look_at_clients(&mut problems).await;
        match self.look_at_upstream().await {
            Ok(has_new) => is_changed |= has_new,
            Err(problem) => problems.push(problem),
        }
        if is_asked || problems != self.problems {
            for problem in &problems {
                tracing::warn!("{problem}; the tokens that were read before stay in force");
            }
        }
        if is_asked {
            // The list may have changed, too.
            self.fetcher.wake();
            if !is_changed && problems.is_empty() {
                tracing::info!("reload: no token has changed; the account list is read again");
            }
        }
        self.problems = problems;
    }

    /// True if there is a new token.
    async fn look_at_upstream(&self) -> Result<bool, String> {
        let Some((path, credentials)) = &self.upstream else {
            return Ok(false);
        };
        let place = |problem| format!("{UPSTREAM_FILE}: {problem}");
        let token = read(path, tokens::upstream_token).await.map_err(place)?;
        let is_new = credentials
            .replace(&token)
            .map_err(|error| place(error.to_string()))?;
        if is_new {
            tracing::info!("the token of the upstream has changed and is in force");
            self.fetcher.wake();
        }
        Ok(is_new)
    }

    /// True if there are new tokens. A file that cannot be used leaves its old ones.
    async fn look_at_clients(&mut self, problems: &mut Vec<String>) -> bool {
        let mut newest = self.clients.clone();
        let files = [
            (TOKENS_FILE, &mut newest.file),
            (READ_TOKENS_FILE, &mut newest.read_file),
        ];
        for (key, file) in files {
            let Some(file) = file else { continue };
            match read(&file.path, tokens::client_tokens).await {
                Ok(tokens) => file.tokens = tokens,
                Err(problem) => problems.push(format!("{key}: {problem}")),
            }
        }
        if let Err(problem) = newest.check() {
            problems.push(format!("{READ_TOKENS_FILE}: {problem}"));
            return false;
        }
        if shown(newest.full()).eq(shown(self.clients.full()))
            && shown(newest.read_only()).eq(shown(self.clients.read_only()))
        {
            return false;
        }
        self.clients = newest;
        let clients = Arc::new(Clients::new(&self.clients, &self.hashes));
        self.publish_clients.send_replace(clients);
        let count = self.clients.full().count();
        let read_only_count = self.clients.read_only().count();
        tracing::info!(
            count,
            read_only_count,
            "the client tokens have changed and are in force"
        );
        true
    }
}

/// What tells one list of tokens from another.
fn shown<'a>(
    tokens: impl Iterator<Item = &'a ClientToken>,
) -> impl Iterator<Item = (Option<&'a str>, &'a str)> {
    tokens.map(|it| (it.name.as_deref(), it.token.expose_secret()))
}

/// The files of tokens that `config` names, by their settings.
fn token_files(config: &Config) -> impl Iterator<Item = (&'static str, &Path)> {
    let tokens = &config.auth.tokens;
    let clients = [
        (TOKENS_FILE, &tokens.file),
        (READ_TOKENS_FILE, &tokens.read_file),
    ];
    let clients = clients.into_iter().filter_map(|(key, file)| {
        let file = file.as_ref()?;
        Some((key, file.path.as_path()))
    });
    let upstream = config.upstream.token_file.as_deref();
    clients.chain(upstream.map(|path| (UPSTREAM_FILE, path)))
}

/// Reads a file beside the workers: a disk may hang.
async fn read<T: Send + 'static>(
    path: &Path,
    reading: fn(&Path) -> Result<T, String>,
) -> Result<T, String> {
    let path = path.to_owned();
    let read = spawn_blocking(move || {
        // Opening a pipe would wait for its other end.
        if fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
            return Err(format!("{} is not a regular file", path.display()));
        }
        reading(&path)
    });
    read.await.unwrap_or_else(|error| Err(error.to_string()))
}
