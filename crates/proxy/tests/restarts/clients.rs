//! Clients of every kind: those whose starts have keys, those that ask once, and those that pick.

use std::{sync::Arc, time::Duration};

use harness::Answer;
use http::Method;
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::surroundings::{JOBS, World};

/// What became of a job start, as far as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Its client goes on asking.
    Nothing,
    /// Its client has asked once, and has no task.
    NoTask,
    /// It is this task.
    Task(i64),
    /// Its client started it at the upstream itself.
    Aside,
}

/// The names of all job starts, and what their clients were told.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    all: Mutex<Vec<(String, Told)>>,
    ended: Notify,
}

impl Starts {
    /// Notes a new start. Returns its place.
    fn begin(&self, name: &str) -> usize {
        let mut starts = self.all.lock();
        starts.push((name.to_owned(), Told::Nothing));
        starts.len() - 1
    }

    fn end(&self, place: usize, told: Told) {
        self.all.lock()[place].1 = told;
        self.ended.notify_waiters();
    }

    /// Waits until the clients of the first starts know what they want to know.
    pub(crate) async fn until_told(&self, count: usize) {
        loop {
            let ended = self.ended.notified();
            let is_told = |(_, told): &(_, Told)| *told != Told::Nothing;
            if self.all.lock()[..count].iter().all(is_told) {
                return;
            }
            ended.await;
        }
    }

    pub(crate) fn copy(&self) -> Vec<(String, Told)> {
        self.all.lock().clone()
    }
}

/// How a client works.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Each start has a key. It is sent until its task is known.
    Keyed,
    /// A start is sent once, without a key.
    Hasty,
    /// It picks, and calls the upstream itself.
    Picking,
}

/// One client. It starts one job after the other.
pub(crate) struct Client {
    world: Arc<World>,
    starts: Arc<Starts>,
    number: usize,
    rng: SmallRng,
}

impl Client {
    pub(crate) fn new(world: Arc<World>, starts: Arc<Starts>, number: usize, seed: u64) -> Self {
        let rng = SmallRng::seed_from_u64(seed.wrapping_add(number as u64));
        Self {
            world,
            starts,
            number,
            rng,
        }
    }

    /// Works until it is stopped, and finishes the start that it is at.
    pub(crate) async fn work(mut self, kind: Kind, stop: CancellationToken) {
        for job in 0.. {
            if stop.is_cancelled() {
                return;
            }
            let name = format!("job-{}-{job}", self.number);
            let place = self.starts.begin(&name);
            let told = match kind {
                Kind::Keyed => self.insist(&name).await,
                Kind::Hasty => self.ask_once(&name).await,
                Kind::Picking => self.pick_and_call(&name).await,
            };
            self.starts.end(place, told);
            self.pause().await;
        }
    }

    /// Sends a job start under a key again and again until its task is known.
    async fn insist(&mut self, name: &str) -> Told {
        let (path, media, body) = self.job(name);
        let headers = [("content-type", &*media), ("idempotency-key", name)];
        loop {
            let world = Arc::clone(&self.world);
            let sent = world.send(Method::POST, &path, &headers, &body);
            // Some give up and ask again.
            let answer = if self.rng.random_ratio(1, 8) {
                let patience = Duration::from_millis(self.rng.random_range(0..600));
                timeout(patience, sent).await.ok().flatten()
            } else {
                sent.await
            };
            let status = answer.as_ref().map(|answer| answer.status.as_u16());
            match (status, answer) {
                (Some(200), Some(answer)) => return Told::Task(task(&answer)),
                (None | Some(409 | 429 | 502..=504), _) => self.pause().await,
                (Some(_), answer) => panic!("{name}: {answer:?}"),
            }
        }
    }

    /// Sends a job start once.
    async fn ask_once(&mut self, name: &str) -> Told {
        let (path, media, body) = self.job(name);
        let headers = [("content-type", &*media)];
        let answer = self.world.send(Method::POST, &path, &headers, &body).await;
        match answer {
            Some(answer) if answer.status == 200 => Told::Task(task(&answer)),
            Some(_) | None => Told::NoTask,
        }
    }

    /// Picks, calls the upstream itself, and gives the slot back in one of the ways there are.
    async fn pick_and_call(&mut self, name: &str) -> Told {
        let lease = self.pick(name).await;
        let lease_path = format!("/leases/{}", lease["leaseId"].as_str().unwrap());
        if self.rng.random_ratio(1, 4) {
            self.until_answered(Method::DELETE, &lease_path, "").await;
            return Told::Aside;
        }
        let mut body = json!({"email": lease["email"], "prompt": name});
        if let Some(mark) = lease["mark"].as_str().filter(|_| self.rng.random_bool(0.5)) {
            body["replyRef"] = json!(mark);
        }
        let path = JOBS[self.rng.random_range(0..JOBS.len())];
        let body = body.to_string();
        let answer = self.world.send_directly(Method::POST, path, &body, false);
        let answer = answer.await;
        if answer.status != 200 {
            self.until_answered(Method::DELETE, &lease_path, "").await;
            return Told::Aside;
        }
        let id = task(&answer);
        match self.rng.random_range(0..3) {
            0 => {
                let bound = format!(r#"{{"taskId":{id}}}"#);
                self.until_answered(Method::PUT, &lease_path, &bound).await;
                if self.rng.random_bool(0.5) {
                    self.until_answered(Method::DELETE, &lease_path, "").await;
                }
            }
            1 => {
                // The slot of a job that no round has listed must be held until the job is over.
                self.until_unlisted(id).await;
                self.until_answered(Method::DELETE, &lease_path, "").await;
            }
            // A round binds it, or it ends by itself.
            _ => {}
        }
        Told::Aside
    }

    /// Picks until there is a slot; some with a key, so that a lost answer comes again.
    async fn pick(&mut self, name: &str) -> Value {
        let has_key = self.rng.random_bool(0.5);
        loop {
            let headers: &[_] = if has_key {
                &[("idempotency-key", name)]
            } else {
                &[]
            };
            let path = "/pick?wait=2s&ttl=4s";
            let answer = self.world.send(Method::POST, path, headers, "").await;
            if let Some(answer) = answer.filter(|answer| answer.status == 200) {
                return answer.json();
            }
            self.pause().await;
        }
    }

    /// Sends a call that may be sent again, until it is answered.
    async fn until_answered(&mut self, method: Method, path: &str, body: &str) {
        let headers = [("content-type", "application/json")];
        loop {
            let sent = self.world.send(method.clone(), path, &headers, body);
            match sent.await.map(|answer| answer.status.as_u16()) {
                Some(200 | 204 | 404) => return,
                None | Some(429 | 503) => self.pause().await,
                Some(status) => panic!("{method} {path}: {status}"),
            }
        }
    }

    /// Waits until the upstream lists a job no longer.
    async fn until_unlisted(&mut self, id: i64) {
        loop {
            let listed = self
                .world
                .send_directly(Method::GET, "/scheduler", "", true);
            let listed = listed.await.json();
            if listed.as_array().unwrap().iter().all(|job| job["id"] != id) {
                return;
            }
            self.pause().await;
        }
    }

    /// Path, media type and body of a job start.
    fn job(&mut self, name: &str) -> (String, String, String) {
        let path = format!("/v1/kling{}", JOBS[self.rng.random_range(0..JOBS.len())]);
        if self.rng.random_ratio(1, 3) {
            let form = format!(
                "--x\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\n{name}\r\n--x--\r\n"
            );
            return (path, "multipart/form-data; boundary=x".to_owned(), form);
        }
        let body = json!({"prompt": name}).to_string();
        (path, "application/json".to_owned(), body)
    }

    /// Draws the moment of the next call; it waits for no event.
    async fn pause(&mut self) {
        sleep(Duration::from_millis(self.rng.random_range(0..100))).await;
    }
}

/// The task that an accepted job start names.
fn task(answer: &Answer) -> i64 {
    let id = answer.json()["task"]["id"].as_i64();
    id.unwrap_or_else(|| panic!("no task: {answer:?}"))
}
