//! The table of keys over a ledger of one account.

use http::Method;

use super::*;
use crate::{
    idempotency::Caller,
    ledger::{
        Ledger, Submission,
        tests::{any_account, ledger_of},
    },
};

const KEYS: usize = 4;

fn key(word: &str) -> Key {
    Key::new(Caller::default(), &Method::POST, "/videos/text2video", word)
}

fn task_id() -> TaskId {
    "7".parse().unwrap()
}

fn table() -> Arc<Keys> {
    Keys::with_limits(KEYS, 2 * PIECE_BYTES)
}

async fn claim(keys: &Arc<Keys>, word: &str) -> Claim {
    match keys.claim(key(word), 1).await.unwrap() {
        Found::Claimed(claim) => claim,
        Found::Accepted(accepted) => panic!("{accepted:?}"),
    }
}

async fn accepted(keys: &Arc<Keys>, word: &str) -> Arc<Accepted> {
    match keys.claim(key(word), 1).await.unwrap() {
        Found::Accepted(accepted) => accepted,
        Found::Claimed(claim) => panic!("{claim:?}"),
    }
}

async fn refusal(keys: &Arc<Keys>, word: &str, fingerprint: u64) -> Error {
    keys.claim(key(word), fingerprint).await.unwrap_err()
}

/// A submission that is sent under a claim.
async fn sent(claim: &mut Claim, ledger: &Arc<Ledger>) -> Submission {
    let request = crate::ledger::PickRequest {
        ttl: None,
        ..any_account()
    };
    let submission = ledger.pick(&request).await.unwrap().submit();
    claim.sent(Some("a@x"), Some(submission.remember().await));
    submission
}

#[tokio::test(start_paused = true)]
async fn a_job_is_remembered_for_a_day() {
    let (keys, ledger) = (table(), ledger_of(9));
    let mut first = claim(&keys, "k").await;
    let submission = sent(&mut first, &ledger).await;
    let answer = HeaderMap::new();
    first.accepted(task_id(), Some((&answer, b"{}")));
    submission.accepted(task_id()).await;
    drop(first);
    tokio::time::advance(REMEMBERED_FOR - Duration::from_secs(1)).await;
    let found = accepted(&keys, "k").await;
    assert_eq!(found.task_id, task_id());
    assert_eq!(found.answer.as_ref().unwrap().body, "{}");
    assert_eq!(refusal(&keys, "k", 2).await, Error::KeyReused);
    tokio::time::advance(Duration::from_secs(1)).await;
    claim(&keys, "k").await;
}

#[tokio::test]
async fn a_call_that_came_to_nothing_frees_its_key() {
    let (keys, ledger) = (table(), ledger_of(9));
    let waiting = claim(&keys, "k").await;
    assert_eq!(refusal(&keys, "k", 1).await, Error::KeyInUse);
    assert_eq!(refusal(&keys, "k", 2).await, Error::KeyReused);
    drop(waiting);
    let mut refused = claim(&keys, "k").await;
    let submission = sent(&mut refused, &ledger).await;
    refused.refused();
    submission.unsent().await;
    assert_eq!(refusal(&keys, "k", 1).await, Error::KeyInUse);
    drop(refused);
    claim(&keys, "k").await;
}

#[tokio::test]
async fn a_submission_that_was_sent_keeps_its_key_until_its_fate_is_known() {
    for is_given_back in [false, true] {
        let (keys, ledger) = (table(), ledger_of(9));
        let mut lost = claim(&keys, "k").await;
        let submission = sent(&mut lost, &ledger).await;
        let lease = submission.lease().id;
        submission.lost(ledger.now());
        drop(lost);
        assert_eq!(refusal(&keys, "k", 1).await, Error::KeyInUse);
        if is_given_back {
            assert!(ledger.release(lease).await);
            claim(&keys, "k").await;
            continue;
        }
        let update = crate::pool::Update {
            ttl: None,
            task_id: Some(task_id()),
        };
        ledger.update(lease, update).await.unwrap();
        assert_eq!(accepted(&keys, "k").await.task_id, task_id());
        assert!(ledger.release(lease).await);
        let found = accepted(&keys, "k").await;
        assert_eq!(found.task_id, task_id(), "its slot is free long since");
        assert!(found.answer.is_none());
        assert_eq!(found.email.as_deref(), Some("a@x"));
    }
}

#[tokio::test]
async fn a_panic_in_mid_submission_does_not_free_the_key() {
    let (keys, ledger) = (table(), ledger_of(9));
    let mut broken = claim(&keys, "k").await;
    let submission = sent(&mut broken, &ledger).await;
    drop((submission, broken));
    assert_eq!(refusal(&keys, "k", 1).await, Error::KeyInUse);
}

#[tokio::test(start_paused = true)]
async fn a_full_table_refuses_new_keys_and_forgets_none() {
    let keys = table();
    for word in 0..KEYS {
        let mut claim = claim(&keys, &word.to_string()).await;
        claim.sent(None, None);
        claim.accepted(task_id(), None);
    }
    assert_eq!(refusal(&keys, "new", 1).await, Error::KeysFull);
    for word in 0..KEYS {
        accepted(&keys, &word.to_string()).await;
    }
    tokio::time::advance(REMEMBERED_FOR).await;
    drop(claim(&keys, "new").await);
    assert!(keys.table.is_empty(), "those of yesterday are forgotten");
}

#[tokio::test]
async fn without_memory_for_its_answer_a_job_is_remembered_all_the_same() {
    let keys = table();
    let body = vec![b'x'; PIECE_BYTES];
    for (word, is_kept) in [("first", true), ("second", true), ("third", false)] {
        let mut claim = claim(&keys, word).await;
        claim.sent(None, None);
        claim.accepted(task_id(), Some((&HeaderMap::new(), &body)));
        let found = accepted(&keys, word).await;
        assert_eq!(found.answer.is_some(), is_kept, "{word}");
    }
}
