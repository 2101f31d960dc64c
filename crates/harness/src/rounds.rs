//! Rounds that run beside a simulator, with a ledger in memory.

use std::{ops::Deref, sync::Arc, time::Duration};

use accounts_fetcher::{Account, Credentials, Listing, Snapshot, tls_client_config};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use kling_sim::{Sim, SimBuilder};
use proxy::{
    events::Events,
    jobs::Rounds,
    ledger::{
        AccountNow, FollowList, FollowListOn, Ledger, ListProgress, NewestList, PickError,
        PickRequest, UpdateLease,
    },
    owners::{FoundOwner, OwnerSearch, Owners},
    pool::{LeaseId, Limits, ListChange, Name, TaskId, Update},
    upstream::{Traffic, Upstream, UpstreamSettings},
};
use serde_json::Value;
use tokio::{sync::watch, task::JoinHandle, time::Instant};

use crate::{NEVER, PATIENCE, Slots, eventually};

/// Rounds, and what they run beside.
#[derive(Debug)]
pub struct Bench {
    /// The upstream.
    pub sim: Sim,
    /// The client that asks it.
    pub upstream: Arc<Upstream>,
    /// The ledger that the rounds update.
    pub ledger: Arc<Ledger>,
    /// The owners that rounds and searches teach.
    pub owners: Arc<Owners>,
    /// The list whose accounts are searched.
    pub listing: watch::Sender<Listing>,
    /// Searches for owners.
    pub search: OwnerSearch,
    /// The rounds themselves.
    pub rounds: Arc<Rounds>,
    interval: Duration,
    running: Option<JoinHandle<()>>,
}

/// Settings of a client of the upstream, with deadlines that only failing tests meet.
pub fn settings(base_url: &str, token: &str) -> UpstreamSettings {
    UpstreamSettings {
        base_url: base_url.parse().unwrap(),
        credentials: Credentials::new(&token.into()).unwrap(),
        connect_timeout: PATIENCE,
        request_timeout: PATIENCE,
        idle_timeout: PATIENCE,
        requests_max: 1024,
        events: Events::default(),
    }
}

/// A client of the upstream.
pub fn client(settings: UpstreamSettings) -> Upstream {
    let tls = tls_client_config(&settings.base_url, &[]).unwrap();
    Upstream::new(settings, tls).unwrap()
}

impl Bench {
    /// Starts everything but the rounds. `accounts` are those of the simulator.
    pub async fn quiet(sim: SimBuilder, accounts: &[(&str, u32)], interval: Duration) -> Self {
        let sim = sim.start().await.unwrap();
        let upstream = Arc::new(client(settings(&sim.base_url(), sim.token())));
        let ledger = Ledger::local(Limits {
            waiters_max: 10,
            job_ttl: NEVER,
            reconciles: true,
            settle: Duration::ZERO,
            ties_picks: true,
        });
        let snapshot = snapshot(accounts);
        let change = ListChange::between(ledger.call(NewestList).await.unwrap(), &snapshot);
        let mut progress = ledger.call(FollowList { change }).await.unwrap().unwrap();
        while progress == ListProgress::Partial {
            progress = ledger.call(FollowListOn).await.unwrap();
        }
        let owners = Arc::new(Owners::default());
        let (listing, newest) = watch::channel(Listing::default());
        let search = OwnerSearch::new(Arc::clone(&upstream), Arc::clone(&owners), newest);
        let rounds = Rounds::new(
            Arc::clone(&upstream),
            Arc::clone(&ledger),
            Arc::clone(&owners),
        );
        let bench = Self {
            sim,
            owners,
            listing,
            search,
            upstream,
            ledger,
            rounds: Arc::new(rounds),
            interval,
            running: None,
        };
        bench.list(accounts);
        bench
    }

    /// Replaces the list whose accounts are searched.
    pub fn list(&self, accounts: &[(&str, u32)]) {
        self.listing.send_modify(|listing| {
            listing.snapshot = Some(Arc::new(snapshot(accounts)));
        });
    }

    /// Lets the rounds run.
    pub fn run(&mut self) {
        let (rounds, interval) = (Arc::clone(&self.rounds), self.interval);
        self.running = Some(tokio::spawn(async move { rounds.run(interval).await }));
    }

    /// Starts everything, and waits until the first round was answered.
    pub async fn learned(sim: SimBuilder, accounts: &[(&str, u32)], interval: Duration) -> Self {
        let mut bench = Self::quiet(sim, accounts, interval).await;
        bench.run();
        bench.until_ok(1).await;
        bench
    }

    /// Wakes the rounds and waits for one more that succeeds.
    pub async fn round(&self) {
        let count = self.rounds.counts().ok();
        self.rounds.wake();
        self.until_ok(count + 1).await;
    }

    /// Waits until this many rounds succeeded.
    pub async fn until_ok(&self, count: u64) {
        eventually(async || (self.rounds.counts().ok() >= count).then_some(())).await;
    }

    /// Waits until this many rounds failed.
    pub async fn until_failed(&self, count: u64) {
        eventually(async || (self.rounds.counts().failed() >= count).then_some(())).await;
    }

    /// The slots of an account in use.
    pub async fn in_use(&self, email: &str) -> Slots {
        let email = Name::new(email);
        let account = self.ledger.call(AccountNow { email }).await.unwrap();
        let account = account.unwrap();
        Slots {
            held: account.held,
            uncertain: account.uncertain,
            foreign: account.foreign,
        }
    }

    /// Waits until the slots in use are these.
    pub async fn until_in_use(&self, email: &str, expected: Slots) {
        eventually(async || (self.in_use(email).await == expected).then_some(())).await;
    }

    /// Picks a slot of this account, and keeps it.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub async fn pick(&self, email: &str) -> Result<LeaseId, PickError> {
        let request = PickRequest {
            email: Some(Name::new(email)),
            ..PickRequest::default()
        };
        let id = LeaseId::random(&mut rand::rng());
        let slot = self.ledger.pick(id, &request, Instant::now()).await?;
        slot.keep();
        Ok(id)
    }

    /// Says which job a lease is for.
    pub async fn bind(&self, lease: LeaseId, task_id: TaskId) {
        let update = Update {
            ttl: None,
            task_id: Some(task_id),
        };
        let update = UpdateLease { id: lease, update };
        self.ledger.call(update).await.unwrap().unwrap();
    }

    /// Starts a job as a client does.
    pub async fn submit(&self, email: &str) -> kling_sim::TaskId {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = serde_json::json!({ "email": email, "prompt": "a cat" }).to_string();
        let response = self
            .upstream
            .send(
                Traffic::JobStart,
                Method::POST,
                "/videos/text2video",
                headers,
                Full::new(Bytes::from(body)),
            )
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&body).unwrap();
        answer["task"]["id"].as_i64().unwrap().into()
    }

    /// Searches for the owner of a task, and asks each account once.
    pub async fn find_owner(&self, task_id: &TaskId) -> FoundOwner {
        self.find_owner_within(task_id, Duration::ZERO).await
    }

    /// Searches for the owner of a task for so long.
    pub async fn find_owner_within(&self, task_id: &TaskId, wait: Duration) -> FoundOwner {
        let deadline = Instant::now() + wait;
        self.search.find_task(task_id, None, deadline).await
    }

    /// The paths of the requests so far.
    pub fn paths(&self) -> Vec<String> {
        let requests = self.sim.requests().into_iter();
        requests.map(|request| request.head.path).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

impl Deref for Bench {
    type Target = Rounds;

    fn deref(&self) -> &Rounds {
        &self.rounds
    }
}

fn snapshot(accounts: &[(&str, u32)]) -> Snapshot {
    let accounts = accounts.iter();
    let accounts = accounts.map(|(email, max)| Account::new(email, *max));
    accounts.collect()
}

/// The simulator's id as ours.
pub fn ours(id: kling_sim::TaskId) -> TaskId {
    id.to_string().parse().unwrap()
}
