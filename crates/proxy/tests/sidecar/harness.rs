//! A running sidecar with its simulator, and a small client that hides nothing.

use std::{error::Error, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kling_sim::{JobDuration, Sim};
use proxy::{
    cli,
    config::Config,
    sidecar::{Sidecar, TaskEnded},
};
use serde_json::Value;
use tokio::{net::TcpStream, task::JoinHandle, time};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// How long a test waits for what must happen: generous, since it only ends tests that fail.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Running {
    pub(crate) sim: Sim,
    pub(crate) addr: SocketAddr,
    pub(crate) metrics_addr: Option<SocketAddr>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), TaskEnded>>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn lease(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self.json()
    }

    /// Checks the whole shape of one of our own errors.
    #[track_caller]
    pub(crate) fn assert_refused(&self, status: u16, reason: &str) {
        assert_eq!(
            (self.status.as_u16(), self.json()["reason"].as_str()),
            (status, Some(reason)),
            "{self:?}"
        );
        let body = self.json();
        assert_eq!(body["code"], status);
        assert!(!body["error"].as_str().unwrap().is_empty());
        assert_eq!(body["requestId"], self.header("x-request-id"));
        assert!(
            self.header("proxy-status")
                .starts_with("kling-balancer; error=")
        );
        let comes_back = matches!(status, 429 | 503 | 409) || reason == "upstream-unreachable";
        assert_eq!(
            self.headers.contains_key(header::RETRY_AFTER),
            comes_back,
            "{self:?}"
        );
        assert_eq!(body["retryAfterMs"].is_u64(), comes_back, "{self:?}");
        if comes_back {
            let seconds: u64 = self.header("retry-after").parse().unwrap();
            let millis = body["retryAfterMs"].as_u64().unwrap();
            assert!(seconds >= 1 && seconds * 1000 >= millis && millis > 0);
        }
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no {name}: {self:?}"))
            .to_str()
            .unwrap()
    }
}

impl Running {
    pub(crate) async fn with(accounts: &[(&str, u32)]) -> Self {
        Self::configured(accounts, &[]).await
    }

    /// `settings` as in the environment, without the prefix.
    pub(crate) async fn configured(accounts: &[(&str, u32)], settings: &[(&str, &str)]) -> Self {
        let running = Self::unlearned(accounts, settings).await;
        running
            .until(|readiness| readiness.status == StatusCode::OK)
            .await;
        running
    }

    /// Like [`Self::configured`], but does not wait for the account list.
    pub(crate) async fn unlearned(accounts: &[(&str, u32)], settings: &[(&str, &str)]) -> Self {
        let sim = accounts.iter().fold(Sim::builder(), |sim, (email, max)| {
            sim.account(*email, *max)
        });
        let sim = sim.job_duration(JobDuration::Manual).start().await.unwrap();
        Self::beside(sim, settings).await
    }

    pub(crate) async fn beside(sim: Sim, settings: &[(&str, &str)]) -> Self {
        let config = config(&sim, settings);
        let shutdown = CancellationToken::new();
        let sidecar = Sidecar::start(&config, shutdown.clone()).await.unwrap();
        let (addr, metrics_addr) = (sidecar.addr().unwrap(), sidecar.metrics_addr());
        let task = tokio::spawn(sidecar.run());
        Self {
            sim,
            addr,
            metrics_addr,
            shutdown,
            task,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, json: &str) -> Answer {
        self.send(
            Method::POST,
            path,
            &[("content-type", "application/json")],
            json,
        )
        .await
    }

    pub(crate) async fn put(&self, path: &str, json: &str) -> Answer {
        self.send(
            Method::PUT,
            path,
            &[("content-type", "application/json")],
            json,
        )
        .await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], "").await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        send(self.addr, method, path, headers, body).await
    }

    /// Picks, and returns the lease.
    #[track_caller]
    pub(crate) fn pick(&self, query: &str) -> impl Future<Output = Value> {
        let path = format!("/pick{query}");
        async move { self.get(&path).await.lease() }
    }

    pub(crate) async fn release(&self, lease: &Value) {
        let path = format!("/leases/{}", lease["leaseId"].as_str().unwrap());
        assert_eq!(self.delete(&path).await.status, StatusCode::NO_CONTENT);
    }

    pub(crate) async fn account(&self, email: &str) -> Value {
        self.get(&format!("/accounts/{email}")).await.json()
    }

    /// Slots in use, over all accounts.
    pub(crate) async fn held(&self) -> u64 {
        let accounts = self.get("/accounts").await.json();
        accounts["accounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| a["held"].as_u64().unwrap())
            .sum()
    }

    /// The value of one series of `/metrics`.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").await.text;
        let line = text.lines().find(|line| {
            line.strip_prefix(series)
                .is_some_and(|rest| rest.starts_with(' '))
        });
        let line = line.unwrap_or_else(|| panic!("no {series} in\n{text}"));
        line[series.len()..].trim().parse().unwrap()
    }

    /// Asks for the readiness again and again until `is_met`.
    pub(crate) async fn until(&self, is_met: impl Fn(&Answer) -> bool) -> Answer {
        eventually(async || {
            let answer = self.get("/readyz").await;
            is_met(&answer).then_some(answer)
        })
        .await
    }

    pub(crate) async fn until_metric(&self, series: &str, is_met: impl Fn(f64) -> bool) {
        eventually(async || is_met(self.metric(series).await).then_some(())).await;
    }
}

/// Repeats `probe` until it finds what it looks for. Each probe is a round trip, which lets the
/// other side run; nothing is assumed about how long anything takes.
pub(crate) async fn eventually<T>(probe: impl AsyncFn() -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    time::timeout(PATIENCE, search)
        .await
        .expect("it never happened")
}

pub(crate) fn config(sim: &Sim, settings: &[(&str, &str)]) -> Config {
    let base_url = sim.base_url();
    let mut env = vec![
        ("LISTEN", "127.0.0.1:0"),
        ("UPSTREAM__TOKEN", sim.token()),
        ("UPSTREAM__BASE_URL", &base_url),
        ("ACCOUNTS__REFRESH_INTERVAL", "100ms"),
    ];
    // One name must come once: of two values nobody knows which one counts.
    env.retain(|(name, _)| !settings.iter().any(|(given, _)| given == name));
    env.extend(settings);
    let env = env
        .into_iter()
        .map(|(name, value)| (format!("KLB_{name}"), value.to_owned()));
    let flags = cli::command().get_matches_from(["kling-balancer"]);
    Config::load(&flags, env, None).unwrap()
}

pub(crate) async fn send(
    addr: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let answered = try_send(addr, method, path, headers, body);
    let answer = time::timeout(PATIENCE, answered).await.expect("no answer");
    answer.unwrap()
}

/// Sends a request whose answer may not come whole. Dropped, its client has left.
pub(crate) async fn try_send(
    addr: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Answer, Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect(addr).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let mut request = Request::builder().method(method).uri(path);
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        request = request.header(header::HOST, addr.to_string());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes())))?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let text = body.collect().await?.to_bytes();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        text: String::from_utf8(text.to_vec())?,
    })
}
