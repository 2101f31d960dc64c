//! `kling-balancer top`: the accounts, the queue, the slots and what happens, drawn anew each second.

mod keys;
mod layout;
#[cfg(test)]
mod tests;
mod view;

use std::{
    future,
    io::{self, Write},
    pin::Pin,
    thread,
    time::Duration,
};

use accounts_fetcher::Chain;
use crossterm::{event, terminal};
use http::{HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use tokio::{
    sync::mpsc,
    time::{self, MissedTickBehavior},
};

pub(super) use self::keys::Switch;
use self::{keys::Wish, view::View};
use super::{
    answers::{Account, Status},
    call::{Client, encoded},
    error::ClientError,
};
use crate::{
    shutdown::Signals,
    terminal::{Output, Screen, written},
};

/// The picture of an answer that stands in a file, as the README shows it.
#[cfg(test)]
pub(crate) fn picture_for_the_readme() -> String {
    let (status, now) = tests::example();
    written(&layout::plain(&status, "http://127.0.0.1:8080", now), false)
}

/// Between two questions, and between two pictures where nothing else happens.
const PACE: Duration = Duration::from_secs(1);
/// Keys that wait to be looked at. A terminal sends the next ones when there is room again.
const KEYS_MAX: usize = 64;

/// A status, and what tells it from the next one.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) status: Status,
    tag: Option<HeaderValue>,
}

impl Client<'_> {
    /// The status; `None` if it is still the one of this tag.
    pub(super) async fn status(
        &self,
        tag: Option<HeaderValue>,
    ) -> Result<Option<Seen>, ClientError> {
        let header = tag.map(|tag| (header::IF_NONE_MATCH, tag));
        let answer = self.within(Method::GET, "/status", header).await?;
        if answer.status == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        let tag = answer.headers.get(header::ETAG).cloned();
        let body = self.accepted(answer)?;
        let status: Status =
            serde_json::from_slice(&body).map_err(|error| self.unexpected(error))?;
        let status = status.told_at(Timestamp::now());
        Ok(Some(Seen { status, tag }))
    }

    /// Drains an account or resumes it. Returns what the sidecar answers.
    pub(super) async fn switch(
        &self,
        switch: Switch,
        account: &str,
    ) -> Result<bytes::Bytes, ClientError> {
        let path = format!("/accounts/{}/{}", encoded(account), switch.as_str());
        self.accepted(self.within(Method::POST, &path, None).await?)
    }
}

/// Shows the sidecar until a key or a signal ends it, or one picture where there is no terminal for more.
pub(super) async fn run(
    client: Client<'_>,
    is_once: bool,
    out: &mut impl Write,
) -> Result<(), ClientError> {
    let output = Output::new();
    let Some(Seen { status, tag }) = client.status(None).await? else {
        return Err(client.unexpected("it says that nothing changed, and was not asked"));
    };
    if is_once || !output.is_live {
        let picture = layout::plain(&status, &client.place(), Timestamp::now());
        writeln!(out, "{}", written(&picture, output.is_colored))?;
        return Ok(());
    }
    let view = View::new(client.place(), status);
    live(client, view, tag, output.is_colored).await
}

/// A change that is under way.
type Switching<'a> = Pin<Box<dyn Future<Output = Result<Account, ClientError>> + 'a>>;

async fn live(
    client: Client<'_>,
    mut view: View,
    mut tag: Option<HeaderValue>,
    is_colored: bool,
) -> Result<(), ClientError> {
    let mut signals = Signals::listen()?;
    let mut screen = Screen::enter()?;
    let mut keys = keys();
    let mut frames = time::interval(PACE);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ask = |pause: Duration, tag: Option<HeaderValue>| {
        Box::pin(async move {
            time::sleep(pause).await;
            client.status(tag).await
        })
    };
    let mut asking = ask(PACE, tag.clone());
    let mut switching: Option<Switching<'_>> = None;
    loop {
        let size = terminal::size()?;
        screen.draw(&view.lines(size, Timestamp::now()), size, is_colored)?;
        let switched = async {
            match &mut switching {
                Some(switching) => switching.await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            _ = frames.tick() => {}
            seen = &mut asking => {
                match seen {
                    Ok(Some(seen)) => {
                        tag = seen.tag;
                        view.show(seen.status, Timestamp::now());
                    }
                    Ok(None) => view.is_unchanged(Timestamp::now()),
                    Err(error) => view.is_lost(&Chain(&error).to_string()),
                }
                asking = ask(PACE, tag.clone());
            }
            switched = switched => {
                switching = None;
                view.note(switched.map_err(|error| Chain(&error).to_string()));
                asking = ask(Duration::ZERO, tag.clone());
            }
            event = keys.recv() => {
                let event = event.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))?;
                match view.take_event(&event) {
                    Some(Wish::Quit) => return Ok(()),
                    Some(Wish::Switch(switch, email)) if switching.is_none() => {
                        switching = Some(Box::pin(async move {
                            let answer = client.switch(switch, &email).await?;
                            let account = serde_json::from_slice::<Account>(&answer);
                            account.map_err(|error| client.unexpected(error))
                        }));
                    }
                    Some(Wish::Switch(..)) | None => {}
                }
            }
            signal = signals.next_ending() => return Err(ClientError::Ended(signal)),
        }
    }
}

/// Reads the keys on a thread of its own, which ends with the process: a terminal cannot be waited for in another way.
fn keys() -> mpsc::Receiver<io::Result<event::Event>> {
    let (tell, keys) = mpsc::channel(KEYS_MAX);
    thread::spawn(move || {
        loop {
            let read = event::read();
            let is_over = read.is_err();
            if tell.blocking_send(read).is_err() || is_over {
                break;
            }
        }
    });
    keys
}
