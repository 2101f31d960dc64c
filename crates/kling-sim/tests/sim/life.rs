//! The simulator starts and ends with its value.

use std::{error::Error as _, io::ErrorKind};

use kling_sim::{ListFault, Sim};
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::client::{get, open};

#[tokio::test]
async fn dropping_it_ends_its_connections() {
    let sim = Sim::builder().account("a@x", 1).start().await.unwrap();
    sim.list_fault(ListFault::Stalled);
    let mut stream = open(&sim, "GET", "/accounts", "").await;
    stream.read_exact(&mut [0]).await.unwrap();
    drop(sim);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
}

#[tokio::test]
async fn shutting_it_down_frees_its_port() {
    let sim = Sim::builder().account("a@x", 1).start().await.unwrap();
    let addr = sim.addr();
    sim.shutdown().await;
    let refused = TcpStream::connect(addr).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_taken_address_is_named_in_the_error() {
    let first = Sim::builder().start().await.unwrap();
    let error = Sim::builder()
        .listen(first.addr())
        .start()
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot listen on {}", first.addr())
    );
    assert!(error.source().unwrap().to_string().contains("in use"));
}

#[tokio::test]
async fn accounts_come_and_go_while_it_runs() {
    let sim = Sim::builder().start().await.unwrap();
    sim.set_account("c@x", 4);
    sim.set_account("a@x", 1);
    sim.set_account("c@x", 9);
    assert_eq!(get(&sim, "/accounts").await.json()["c@x"]["maxJobs"], 9);
    assert!(sim.remove_account("c@x"));
    let list = get(&sim, "/accounts").await.json();
    assert_eq!(
        list.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["a@x"]
    );
}
