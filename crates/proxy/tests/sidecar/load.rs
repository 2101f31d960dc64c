//! Many clients at once, judged by the simulator's books.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use harness::{PATIENCE, Running, eventually};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::Instant};

const CLIENTS: u64 = 64;
const LENGTH: Duration = Duration::from_secs(30);

/// One kept-alive connection.
struct Client(SendRequest<Full<Bytes>>);

impl Client {
    async fn connect(addr: std::net::SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn call(&mut self, request: http::request::Builder, body: &str) -> (StatusCode, Bytes) {
        let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
        let exchange = async {
            let request = request
                .header(header::HOST, "localhost")
                .body(body)
                .unwrap();
            let answer = self.0.send_request(request).await.unwrap();
            (
                answer.status(),
                answer.into_body().collect().await.unwrap().to_bytes(),
            )
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .expect("a call is stuck")
    }
}

/// Picks, submits a job on the picked account, lets it end, and gives the slot back.
async fn work(running: &Running, rng: &mut SmallRng, until: Instant) -> u64 {
    let mut sidecar = Client::connect(running.addr).await;
    let mut upstream = Client::connect(running.sim.addr()).await;
    let mut jobs_count = 0;
    while Instant::now() < until {
        let wait = [
            "?wait=10s",
            "?wait=10s&exclude=a@x",
            "?wait=10s&email=c@x",
            "",
        ];
        let path = format!("/pick{}", wait[rng.random_range(0..wait.len())]);
        let (status, body) = sidecar.call(Request::get(path), "").await;
        if status == StatusCode::TOO_MANY_REQUESTS {
            continue;
        }
        assert_eq!(status, StatusCode::OK, "{body:?}");
        let lease: Value = serde_json::from_slice(&body).unwrap();
        let submission = Request::post(format!("{}/videos/text2video", running.sim.base_url()))
            .header(
                header::AUTHORIZATION,
                format!("Bearer {}", running.sim.token()),
            )
            .header(header::CONTENT_TYPE, "application/json");
        let job = json!({"email": lease["email"], "prompt": "a boat"}).to_string();
        let (status, body) = upstream.call(submission, &job).await;
        assert_eq!(status, StatusCode::OK, "the account was full: {body:?}");
        let job: Value = serde_json::from_slice(&body).unwrap();
        assert!(running.sim.finish(job["task"]["id"].as_u64().unwrap()));
        let path = format!("/leases/{}", lease["leaseId"].as_str().unwrap());
        let (status, _) = sidecar.call(Request::delete(path), "").await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        jobs_count += 1;
    }
    jobs_count
}

#[expect(
    clippy::print_stdout,
    reason = "a failure shows its seed and the books"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_clients_for_half_a_minute_never_overrun_an_account() {
    let seed: u64 = std::env::var("LOAD_SEED")
        .map_or_else(|_| rand::rng().random(), |seed| seed.parse().unwrap());
    println!("LOAD_SEED={seed}");
    let accounts = [("a@x", 2), ("b@x", 3), ("c@x", 5)];
    let running = Arc::new(Running::with(&accounts).await);
    let until = Instant::now() + LENGTH;
    let done = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let (running, done) = (Arc::clone(&running), Arc::clone(&done));
            tokio::spawn(async move {
                let mut rng = SmallRng::seed_from_u64(seed ^ n);
                done.fetch_add(work(&running, &mut rng, until).await, Ordering::Relaxed);
            })
        })
        .collect();
    while Instant::now() < until {
        come_and_go(&running).await;
    }
    for client in clients {
        client.await.unwrap();
    }

    let audit = running.sim.audit();
    println!("{audit}");
    assert_eq!(audit.over_limit(), 0);
    assert_eq!(audit.submission_count, done.load(Ordering::Relaxed));
    for (email, max_jobs) in accounts {
        let account = audit.account(email).unwrap();
        assert!(account.peak <= max_jobs, "{account:?}");
        assert!(account.accepted > 0, "{account:?}");
    }
    assert_eq!(running.held().await, 0, "all slots are back");
    assert_eq!(
        running.metric("kling_balancer_waiters").await,
        0.0,
        "no waiter is stuck"
    );
}

/// Acts as another tool that adds an account, and removes it once its jobs are done.
async fn come_and_go(running: &Running) {
    running.sim.set_account("d@x", 4);
    until_account(running, |account| {
        account.is_some_and(|account| account["maxJobs"] == 4)
    })
    .await;
    running.post("/accounts/d@x/drain", "").await;
    until_account(running, |account| {
        account.is_some_and(|account| account["held"] == 0)
    })
    .await;
    running.sim.remove_account("d@x");
    until_account(running, |account| {
        account.is_some_and(|account| account["state"] == "removed")
    })
    .await;
    running.post("/accounts/d@x/resume", "").await;
    until_account(running, |account| account.is_none()).await;
}

async fn until_account(running: &Running, is_met: impl Fn(Option<&Value>) -> bool) {
    eventually(async || {
        let answer = running.get("/accounts/d@x").await;
        let account = (answer.status == StatusCode::OK).then(|| answer.json());
        is_met(account.as_ref()).then_some(())
    })
    .await;
}
