use std::net::SocketAddr;

use http::{Method, StatusCode};
use kling_sim::Sim;
use proxy::{
    cli,
    config::Config,
    sidecar::{Sidecar, TaskEnded},
    sockets::PassedSockets,
};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{Answer, eventually, manual, send, tls};

/// A running sidecar with its simulator.
#[derive(Debug)]
pub struct Running {
    /// The upstream.
    pub sim: Sim,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Whom it calls: host and port of its base URL.
    pub upstream: String,
    /// The same of its second listener.
    pub metrics_addr: Option<SocketAddr>,
    /// Ends it.
    pub shutdown: CancellationToken,
    /// Runs it.
    pub task: JoinHandle<Result<(), TaskEnded>>,
}

impl Running {
    /// Starts one beside a simulator with these accounts, whose jobs end when the test says so.
    /// Returns when it is ready.
    pub async fn with(accounts: &[(&str, u32)]) -> Self {
        Self::configured(accounts, &[]).await
    }

    /// The same with `settings` as in the environment, without the prefix.
    pub async fn configured(accounts: &[(&str, u32)], settings: &[(&str, &str)]) -> Self {
        let running = Self::unlearned(accounts, settings).await;
        running
            .until(|readiness| readiness.status == StatusCode::OK)
            .await;
        running
    }

    /// Like [`Self::configured`], but does not wait for the account list.
    pub async fn unlearned(accounts: &[(&str, u32)], settings: &[(&str, &str)]) -> Self {
        let sim = manual(accounts).start().await.unwrap();
        Self::beside(sim, settings).await
    }

    /// Starts one beside this simulator. Does not wait until it is ready.
    pub async fn beside(sim: Sim, settings: &[(&str, &str)]) -> Self {
        let shutdown = CancellationToken::new();
        let config = config(&sim, settings);
        let sidecar = start(&config, shutdown.clone()).await;
        let (addr, metrics_addr) = (sidecar.addr().unwrap(), sidecar.metrics_addr());
        let task = tokio::spawn(sidecar.run());
        Self {
            sim,
            addr,
            upstream: config.upstream.base_url.authority().unwrap().to_string(),
            metrics_addr,
            shutdown,
            task,
        }
    }

    /// Asks for `path`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    /// Posts JSON.
    pub async fn post(&self, path: &str, json: &str) -> Answer {
        self.send(
            Method::POST,
            path,
            &[("content-type", "application/json")],
            json,
        )
        .await
    }

    /// Puts JSON.
    pub async fn put(&self, path: &str, json: &str) -> Answer {
        self.send(
            Method::PUT,
            path,
            &[("content-type", "application/json")],
            json,
        )
        .await
    }

    /// Deletes `path`.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], "").await
    }

    /// Sends a request whose answer must come whole.
    pub async fn send(
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
    pub fn pick(&self, query: &str) -> impl Future<Output = Value> {
        let path = format!("/pick{query}");
        async move { self.get(&path).await.lease() }
    }

    /// Releases a lease.
    pub async fn release(&self, lease: &Value) {
        let path = format!("/leases/{}", lease["leaseId"].as_str().unwrap());
        assert_eq!(self.delete(&path).await.status, StatusCode::NO_CONTENT);
    }

    /// An account as `/accounts/{email}` shows it.
    pub async fn account(&self, email: &str) -> Value {
        self.get(&format!("/accounts/{email}")).await.json()
    }

    /// Slots in use, over all accounts.
    pub async fn held(&self) -> u64 {
        let accounts = self.get("/accounts").await.json();
        accounts["accounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| a["held"].as_u64().unwrap())
            .sum()
    }

    /// The value of one series of `/metrics`.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").await.text;
        let line = text.lines().find(|line| {
            line.strip_prefix(series)
                .is_some_and(|rest| rest.starts_with(' '))
        });
        let line = line.unwrap_or_else(|| panic!("no {series} in\n{text}"));
        line[series.len()..].trim().parse().unwrap()
    }

    /// Asks for the readiness again and again until `is_met`.
    pub async fn until(&self, is_met: impl Fn(&Answer) -> bool) -> Answer {
        eventually(async || {
            let answer = self.get("/readyz").await;
            is_met(&answer).then_some(answer)
        })
        .await
    }

    /// Reads a series of `/metrics` again and again until `is_met`.
    pub async fn until_metric(&self, series: &str, is_met: impl Fn(f64) -> bool) {
        eventually(async || is_met(self.metric(series).await).then_some(())).await;
    }
}

/// A sidecar that listens beside this simulator, and does not run yet.
pub async fn listening(
    sim: &Sim,
    settings: &[(&str, &str)],
    shutdown: CancellationToken,
) -> Sidecar {
    start(&config(sim, settings), shutdown).await
}

async fn start(config: &Config, shutdown: CancellationToken) -> Sidecar {
    let started = Sidecar::start(config, PassedSockets::default(), shutdown);
    started.await.unwrap()
}

fn config(sim: &Sim, settings: &[(&str, &str)]) -> Config {
    let base_url = sim.base_url();
    let mut env = vec![
        ("LISTEN", "127.0.0.1:0"),
        ("UPSTREAM__TOKEN", sim.token()),
        ("UPSTREAM__BASE_URL", &base_url),
        ("ACCOUNTS__REFRESH_INTERVAL", "100ms"),
        // Most tests ask what is so now.
        ("FORWARD__WAIT", "0s"),
    ];
    // A name must come once: of two values it is undefined which one counts.
    env.retain(|(name, _)| !settings.iter().any(|(given, _)| given == name));
    env.extend(settings);
    let over_tls;
    if tls::is_on() {
        env.push(("UPSTREAM__CA_FILE", tls::root().to_str().unwrap()));
        let (_, url) = env
            .iter_mut()
            .find(|(name, _)| *name == "UPSTREAM__BASE_URL")
            .unwrap();
        over_tls = tls::in_front_of(url);
        *url = &over_tls;
    }
    let env = env
        .into_iter()
        .map(|(name, value)| (format!("KLB_{name}"), value.to_owned()));
    let flags = cli::command().get_matches_from(["kling-balancer"]);
    Config::load(&flags, env, None).unwrap()
}
