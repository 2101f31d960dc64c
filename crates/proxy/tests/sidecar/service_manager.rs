//! What the service manager is told (`sd_notify(3)`), on a socket as systemd passes it.

use std::path::Path;

use harness::within;
use kling_sim::{ListFault, Sim};
use tempfile::TempDir;
use tokio::net::UnixDatagram;

use crate::program::{Process, program};

/// The manager's end of the socket.
struct Manager {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        Self { socket, directory }
    }

    fn path(&self, name: &str) -> String {
        let path: &Path = self.directory.path();
        path.join(name).to_str().unwrap().to_owned()
    }

    /// The lines of the next message.
    async fn told(&self) -> Vec<String> {
        let mut message = [0; 4096];
        let length = within(self.socket.recv(&mut message)).await.unwrap();
        let text = std::str::from_utf8(&message[..length]).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

async fn sim() -> Sim {
    let sim = Sim::builder().account("a@example.com", 3);
    sim.start().await.unwrap()
}

#[tokio::test]
async fn the_service_manager_is_told_of_start_reload_and_end() {
    let (sim, manager) = (sim().await, Manager::new());
    let notify = manager.path("notify");
    let process = Process::start(&sim, &[("NOTIFY_SOCKET", &notify)]).await;
    let started = manager.told().await;
    assert_eq!(started[0], "READY=1");
    let listens = format!("STATUS=Listening on {}. ", process.addr);
    assert!(started[1].starts_with(&listens), "{started:?}");
    assert_eq!(manager.told().await, ["STATUS=Ready: accounts 1, slots 3"]);
    sim.set_account_error("a@example.com", Some("expired"));
    assert_eq!(
        manager.told().await,
        ["STATUS=Not ready: no-usable-account"]
    );

    process.signal("-HUP").await;
    let reloading = manager.told().await;
    assert_eq!(reloading[0], "RELOADING=1");
    // Without the time in the same message a unit of Type=notify-reload ends.
    let at = reloading[1].strip_prefix("MONOTONIC_USEC=").unwrap();
    assert!(at.parse::<u64>().unwrap() > 0);
    assert_eq!(manager.told().await, ["READY=1"]);

    process.signal("-TERM").await;
    let stopping = manager.told().await;
    assert_eq!(stopping[0], "STOPPING=1");
    assert!(stopping[1].starts_with("STATUS=Draining"), "{stopping:?}");
    assert_eq!(process.end().await.0, Some(0));
}

/// A restart would not bring the upstream back.
#[tokio::test]
async fn it_counts_as_started_while_the_upstream_is_down() {
    let (sim, manager) = (sim().await, Manager::new());
    sim.list_fault(ListFault::status(503));
    let notify = manager.path("notify");
    let process = Process::start(&sim, &[("NOTIFY_SOCKET", &notify)]).await;
    assert_eq!(manager.told().await[0], "READY=1");
    process.signal("-TERM").await;
    assert_eq!(manager.told().await[0], "STOPPING=1");
    assert_eq!(process.end().await.0, Some(0));
}

/// It answers calls meanwhile, and the time that a start may take would be over.
#[tokio::test]
async fn it_counts_as_started_while_another_process_has_the_state() {
    let (sim, manager) = (sim().await, Manager::new());
    let state = manager.path("book.db");
    let first = Process::start(&sim, &[("KLB_STATE__PATH", &state)]).await;
    let (notify, base_url) = (manager.path("notify"), sim.base_url());
    let env = [
        ("KLB_LISTEN", "127.0.0.1:0"),
        ("KLB_UPSTREAM__BASE_URL", base_url.as_str()),
        ("KLB_UPSTREAM__TOKEN", sim.token()),
        ("KLB_STATE__PATH", &state),
        ("NOTIFY_SOCKET", &notify),
    ];
    let second = program(&["serve"], &env).spawn().unwrap();
    assert_eq!(
        manager.told().await,
        [
            "READY=1",
            "STATUS=Not ready: another process has the state; it is waited for"
        ]
    );
    // It is killed.
    drop(second);
    first.signal("-TERM").await;
    assert_eq!(first.end().await.0, Some(0));
}
