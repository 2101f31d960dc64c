//! Commands that ask a running sidecar: `kling-balancer status`, `top`, `pick` and so on.
//!
//! What they print for people holds nothing that a terminal would obey, and no colours but on a terminal. With `--json` they
//! print what the sidecar answered.

mod answers;
mod call;
mod error;
mod events;
mod pages;
mod state;
mod summary;
mod tables;
mod times;
mod top;

use std::{collections::BTreeMap, io::Write, time::SystemTime};

use bytes::Bytes;
use http::Method;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

#[cfg(test)]
pub(crate) use self::top::picture_for_the_readme;
use self::{
    answers::{Account, Job, Lease, Status},
    call::{Client, encoded, query},
    top::Switch,
};
pub use self::{error::ClientError, events::Wanted};
use crate::{
    cli::CliAsk,
    config::{ClientConfig, duration},
    terminal::{Line, Output, shown_json, written},
};

/// Asks a running sidecar, and writes its answer to `out`. What has to be told besides goes to `err`.
///
/// # Errors
/// [`ClientError`] if it refuses, cannot be asked, or its answer is a no.
pub async fn ask(
    config: &ClientConfig,
    ask: &CliAsk,
    is_json: bool,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<(), ClientError> {
    let client = Client { config };
    let now = Timestamp::now();
    let mut asked = Asked {
        client,
        is_json,
        out,
    };
    match ask {
        CliAsk::Health { is_live } => client.health(*is_live).await,
        CliAsk::Status => {
            let body = client.get("/status").await?;
            asked.show(&body, |status: Status| {
                summary::lines(&status.told_at(now), &client.place(), now)
            })
        }
        CliAsk::Top { .. } if is_json => {
            let body = client.get("/status").await?;
            asked.show(&body, |_: Value| Vec::new())
        }
        CliAsk::Top { is_once } => top::run(client, *is_once, asked.out).await,
        CliAsk::Accounts => {
            let answer = client.whole("/accounts", "accounts").await?;
            if !answer["accounts"].as_array().is_none_or(Vec::is_empty) {
                return asked.show_member(answer, "accounts", |accounts: Vec<Account>| {
                    tables::accounts(&accounts, now)
                });
            }
            if is_json {
                asked.show_member(answer, "accounts", |_: Vec<Account>| Vec::new())?;
            }
            Err(client.why_no_account().await?)
        }
        CliAsk::Leases => {
            let answer = client.whole("/leases", "leases").await?;
            asked.show_member(answer, "leases", |leases: Vec<Lease>| {
                tables::leases(&leases, &BTreeMap::new(), now)
            })
        }
        CliAsk::Jobs { query: asked_for } => {
            let path = format!("/jobs?{}", query(&absolute(asked_for)?));
            let answer = client.json(&client.get(&path).await?)?;
            asked.show_member(answer, "jobs", |jobs: Vec<Job>| tables::jobs(&jobs))
        }
        CliAsk::Events { wanted } => events::follow(client, *wanted, is_json, asked.out, err).await,
        CliAsk::Pick { query: wish } => {
            let path = format!("/pick?{}", query(wish));
            // It may wait for as long as it asks for.
            let body = client.accepted(client.call(Method::POST, &path, None).await?)?;
            asked.show(&body, |answer: Value| tables::picked(&answer))?;
            let eligible = &client.json(&body)?["eligible"];
            match eligible.as_array().is_some_and(Vec::is_empty) {
                true => Err(ClientError::NoneEligible),
                false => Ok(()),
            }
        }
        CliAsk::State => asked.state(now).await,
        CliAsk::Release { lease_id } => {
            let path = format!("/leases/{}", encoded(lease_id));
            client.accepted(client.within(Method::DELETE, &path, None).await?)?;
            asked.say("released")
        }
        CliAsk::Drain { account } => asked.switch(Switch::Drain, account).await,
        CliAsk::Resume { account } => asked.switch(Switch::Resume, account).await,
    }
}

/// Times as `/jobs` takes them: a duration, such as `2h`, is that long ago.
fn absolute(query: &[(&'static str, String)]) -> Result<Vec<(&'static str, String)>, ClientError> {
    let absolute = |(name, value): &(&'static str, String)| {
        if *name != "since" || value.parse::<Timestamp>().is_ok() {
            return Ok((*name, value.clone()));
        }
        let ago = duration(value).ok();
        let since = ago.and_then(|ago| SystemTime::now().checked_sub(ago));
        let since = since.and_then(|since| Timestamp::try_from(since).ok());
        let since = since.ok_or_else(|| ClientError::Flag {
            flag: "--since",
            problem: "expected a time such as 2026-01-31T12:00:00Z, or a duration such as 2h"
                .to_owned(),
        })?;
        Ok((*name, since.to_string()))
    };
    query.iter().map(absolute).collect()
}

/// A sidecar that is asked, and where its answer goes.
struct Asked<'a, W> {
    client: Client<'a>,
    is_json: bool,
    out: &'a mut W,
}

impl<W: Write> Asked<'_, W> {
    /// Writes an answer as it came, or as the lines that it makes.
    fn show<T: DeserializeOwned>(
        &mut self,
        body: &Bytes,
        lines: impl FnOnce(T) -> Vec<Line>,
    ) -> Result<(), ClientError> {
        let answer: T =
            serde_json::from_slice(body).map_err(|error| self.client.unexpected(error))?;
        if self.is_json {
            let json = shown_json(&String::from_utf8_lossy(body));
            return Ok(writeln!(self.out, "{json}")?);
        }
        self.write(&lines(answer))
    }

    /// Writes an answer whole, or the lines that one of its members makes.
    fn show_member<T: DeserializeOwned>(
        &mut self,
        mut answer: Value,
        member: &str,
        lines: impl FnOnce(T) -> Vec<Line>,
    ) -> Result<(), ClientError> {
        if self.is_json {
            return Ok(writeln!(self.out, "{}", shown_json(&answer.to_string()))?);
        }
        let member = serde_json::from_value(answer[member].take());
        let member = member.map_err(|error| self.client.unexpected(error))?;
        self.write(&lines(member))
    }

    /// Writes a sentence. It is no answer of the sidecar's.
    fn say(&mut self, text: &str) -> Result<(), ClientError> {
        if self.is_json {
            return Ok(());
        }
        Ok(writeln!(self.out, "{text}")?)
    }

    fn write(&mut self, lines: &[Line]) -> Result<(), ClientError> {
        let text = written(lines, Output::new().is_colored);
        Ok(writeln!(self.out, "{text}")?)
    }

    async fn state(&mut self, now: Timestamp) -> Result<(), ClientError> {
        let metrics = self.client.get("/metrics").await?;
        let state = state::of_metrics(&String::from_utf8_lossy(&metrics));
        if self.is_json {
            return Ok(writeln!(self.out, "{state}")?);
        }
        Ok(writeln!(self.out, "{}", state::table(&state, now))?)
    }

    async fn switch(&mut self, switch: Switch, account: &str) -> Result<(), ClientError> {
        let body = self.client.switch(switch, account).await?;
        self.show(&body, |account: Account| vec![summary::switched(&account)])
    }
}

impl Client<'_> {
    async fn health(&self, is_live: bool) -> Result<(), ClientError> {
        let (path, state) = if is_live {
            ("/livez", "not alive")
        } else {
            ("/readyz?verbose", "not ready")
        };
        let answer = self.within(Method::GET, path, None).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&answer.body);
        let said = format!("{state}\n{}", said.trim_end());
        let comes_back = false;
        Err(ClientError::Refused { said, comes_back })
    }

    /// Why there is no account.
    async fn why_no_account(&self) -> Result<ClientError, ClientError> {
        let answer = self.within(Method::GET, "/readyz", None).await?;
        let json = serde_json::from_slice(&answer.body).unwrap_or_default();
        let why = match self.refusal(answer.status, &json) {
            Some(ClientError::Refused { said, .. }) => said,
            Some(_) | None => "the account list is empty".to_owned(),
        };
        Ok(ClientError::NoAccount { why })
    }
}
