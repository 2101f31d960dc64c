//! Starts without a slot, since their account is not in the list.

use super::*;
use crate::{
    pool::LeaseId,
    records::{Delivery, Entered, tests::arrival},
};

/// A start without a key has arrived, and is sent next without a slot.
fn begin(stage: &Stage) -> (Delivery, LeaseId) {
    let Entered::New(delivery) = stage.records.enter(&arrival(Some(1)), true) else {
        panic!("it is the first one");
    };
    let lease = LeaseId::random(&mut rand::rng());
    stage.records.note_unlisted(delivery.id(), lease);
    (delivery, lease)
}

#[tokio::test(start_paused = true)]
async fn a_start_without_a_key_and_a_slot_is_durable_before_it_is_sent() {
    let stage = Stage::new(1).await;
    stage.let_through(1);
    stage.ledger.flushed().await.unwrap();
    let (delivery, lease) = begin(&stage);
    let preparing = stage
        .ledger
        .prepare_without_slot(lease, None, Instant::now());
    let mut preparing = Box::pin(preparing);
    for _ in 0..100 {
        assert!(poll_once(&mut preparing.as_mut()).await.is_none());
        yield_now().await;
    }
    assert_eq!(stage.disk.count(Table::JobStart), 0);
    stage.let_through(9);
    assert_eq!(preparing.as_mut().await, Ok(None));
    drop(preparing);
    let _under_way = stage.records.submit(delivery.id());
    // As after kill -9, right after the first byte.
    stage.writing.abort();
    let stage = Stage::over(Arc::clone(&stage.disk), 1).await;
    let Entered::Twin(promise) = stage.records.enter(&arrival(Some(1)), true) else {
        panic!("its client would start a second job");
    };
    let record = stage.records.get(promise.delivery.id()).unwrap();
    assert_eq!(record.outcome.as_str(), "uncertain");
}

#[tokio::test(start_paused = true)]
async fn a_start_without_a_slot_waits_for_a_journal_that_fails_until_its_deadline() {
    let stage = Stage::new(1).await;
    stage.let_through(1);
    stage.ledger.flushed().await.unwrap();
    stage.disk.is_full.store(true, Ordering::Relaxed);
    stage.let_through(1000);
    // The first one finds out, the second one is told.
    for _ in 0..2 {
        let (_delivery, lease) = begin(&stage);
        let deadline = Instant::now() + Duration::from_secs(9);
        let prepared = stage.ledger.prepare_without_slot(lease, None, deadline);
        assert_eq!(prepared.await, Err(Unavailable));
        assert_eq!(Instant::now(), deadline);
    }
    let (_delivery, lease) = begin(&stage);
    let deadline = Instant::now() + Duration::from_secs(9);
    let preparing = stage.ledger.prepare_without_slot(lease, None, deadline);
    let mut preparing = Box::pin(preparing);
    assert!(poll_once(&mut preparing.as_mut()).await.is_none());
    stage.disk.is_full.store(false, Ordering::Relaxed);
    assert_eq!(preparing.await, Ok(None));
    assert_eq!(stage.disk.count(Table::JobStart), 1);
    assert!(Instant::now() < deadline);
}
