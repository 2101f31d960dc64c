//! The ring, its readers, and what is written of a fact.

use std::{
    collections::HashSet,
    task::{Context, Poll, Waker},
};

use serde_json::{Value, json};

use super::*;
use crate::pool::AccountState;

fn account(email: &str) -> AccountFacts {
    AccountFacts {
        email: email.into(),
        alias: accounts_fetcher::Alias::from_text("a-1f2e3d4c").unwrap(),
    }
}

fn job() -> JobFacts {
    JobFacts {
        request_id: Some("r-1".into()),
        client: Some("studio".into()),
        operation: Some("/videos/text2video".into()),
        account: Some(account("a@x")),
        task_id: Some("42".parse().unwrap()),
    }
}

fn publish(events: &Events, count: usize) {
    for _ in 0..count {
        events.publish(&Fact::UpstreamReachable);
    }
}

/// What a reader gets without waiting: ids of events, in order. Comments are skipped.
fn read(subscription: &mut Subscription) -> Result<Vec<u64>, TooSlow> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut ids = Vec::new();
    while let Poll::Ready(Some(frame)) = subscription.poll_next(&mut cx) {
        let frame = frame?;
        let text = str::from_utf8(&frame).unwrap();
        let id = text
            .strip_prefix("id: ")
            .and_then(|rest| rest.lines().next());
        ids.extend(id.map(|id| id.parse::<u64>().unwrap()));
    }
    Ok(ids)
}

fn value(event: &Event) -> Value {
    serde_json::from_str(event.json()).unwrap()
}

#[test]
fn an_event_is_one_frame_with_its_id_type_and_members() {
    let events = Events::beginning_at(7, false);
    events.publish(&Fact::JobEnded {
        job: job(),
        result: JobEnd::Succeeded,
        duration: Duration::from_millis(1500),
    });
    let event = &events.recent(1)[0];
    let frame = str::from_utf8(event.frame()).unwrap();
    assert_eq!(
        frame,
        format!("id: 7\nevent: job-ended\ndata: {}\n\n", event.json())
    );
    let mut value = value(event);
    let at = value["at"].take();
    at.as_str().unwrap().parse::<Timestamp>().unwrap();
    assert_eq!(
        value,
        json!({
            "id": 7, "at": null, "type": "job-ended", "message": "job succeeded on a@x",
            "requestId": "r-1", "client": "studio", "operation": "/videos/text2video",
            "email": "a@x", "alias": "a-1f2e3d4c", "taskId": "42",
            "result": "succeeded", "durationMs": 1500,
        })
    );
    assert_eq!(serde_json::to_value(event).unwrap()["id"], 7);
}

#[test]
fn an_event_of_a_job_is_written_when_it_is_read_and_once() {
    let events = Events::default();
    events.publish(&Fact::JobStarted(job()));
    events.publish(&Fact::UpstreamReachable);
    let [started, reachable] = &events.recent(2)[..] else {
        panic!("there are two");
    };
    assert!(!started.is_written() && reachable.is_written());
    let message = &value(started)["message"];
    assert_eq!(message, "job started on a@x");
    let again = &events.recent(2)[0];
    assert!(again.is_written());
    assert_eq!(again.frame().as_ptr(), started.frame().as_ptr());
}

#[test]
fn only_jobs_whose_ends_were_seen_have_taken_their_time() {
    let events = Events::default();
    for result in JobEnd::ALL {
        events.publish(&Fact::JobEnded {
            job: job(),
            result,
            duration: Duration::from_secs(1),
        });
    }
    let durations = events.job_durations().collector();
    let of_operation = durations.with_label_values(&["/videos/text2video"]);
    assert_eq!(of_operation.get_sample_count(), 2);
}

#[test]
fn foreign_text_cannot_break_a_frame() {
    let events = Events::default();
    events.publish(&Fact::AccountDrained(account(
        "a@x\n\nid: 1\r\rdata: \u{2028}",
    )));
    events.publish(&Fact::ListFailed {
        error: "ä\r\n".repeat(10_000),
    });
    for event in events.recent(2) {
        let frame = str::from_utf8(event.frame()).unwrap();
        assert_eq!(frame.matches(['\n', '\r']).count(), 4, "{frame:.200}");
        let message = value(&event)["message"].as_str().unwrap().len();
        assert!(message < 400, "{message}");
    }
}

#[test]
fn ids_grow_by_one_and_begin_at_the_clock() {
    let microseconds = || u64::try_from(Timestamp::now().as_microsecond()).unwrap();
    let before = microseconds();
    let events = Events::default();
    let after = microseconds();
    assert!((before - 1..after).contains(&events.newest_id()));
    publish(&events, 3);
    let ids: Vec<_> = events.recent(3).iter().map(Event::id).collect();
    assert_eq!(ids, [ids[0], ids[0] + 1, ids[0] + 2]);
    assert_eq!(events.newest_id(), ids[2]);
    assert!(ids[2] < 1 << 53, "programs read ids as doubles");
}

#[test]
fn a_reader_gets_what_came_after_the_id_that_it_names() {
    let events = Events::beginning_at(100, false);
    publish(&events, EVENTS_MAX + 10);
    let (oldest, newest) = (110, 100 + EVENTS_MAX as u64 + 9);
    assert_eq!(events.newest_id(), newest);
    for (after, first) in [
        (None, newest + 1),
        (Some(newest), newest + 1),
        (Some(newest - 2), newest - 1),
        (Some(0), oldest),
        (Some(99), oldest),
        (Some(oldest), oldest + 1),
        (Some(newest + 1), oldest),
        (Some(u64::MAX), oldest),
    ] {
        let mut reader = events.subscribe(after, 1).unwrap();
        let ids = read(&mut reader).unwrap();
        assert_eq!(ids, (first..=newest).collect::<Vec<_>>(), "{after:?}");
    }
    assert_eq!(events.cut_count(), 0);
}

#[test]
fn a_reader_that_falls_behind_is_cut_and_no_other() {
    let events = Events::default();
    let mut slow = events.subscribe(None, 9).unwrap();
    let mut quick = events.subscribe(None, 9).unwrap();
    let stuck = events.subscribe(None, 9).unwrap();
    let mut ids = Vec::new();
    for _ in 0..=EVENTS_MAX {
        publish(&events, 1);
        ids.extend(read(&mut quick).unwrap());
    }
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), EVENTS_MAX + 1);
    assert_eq!(read(&mut slow), Err(TooSlow));
    drop(slow);
    assert_eq!(events.cut_count(), 1, "it is counted once");
    drop(stuck);
    assert_eq!(events.cut_count(), 2, "its connection was closed");
    drop(quick);
    assert_eq!((events.cut_count(), events.readers_count()), (2, 0));
}

#[test]
fn what_is_kept_is_bounded_in_bytes_too() {
    let events = Events::default();
    let long = "x".repeat(64 * 1024);
    for _ in 0..EVENTS_MAX {
        events.publish(&Fact::ListFailed {
            error: long.clone(),
        });
    }
    let kept = events.recent(usize::MAX);
    let bytes: usize = kept.iter().map(|event| event.frame().len()).sum();
    assert!(bytes <= EVENTS_BYTES_MAX && kept.len() > 50, "{bytes}");
    let long_job = JobFacts {
        client: Some(long.into()),
        ..job()
    };
    for _ in 0..EVENTS_MAX {
        events.publish(&Fact::JobStarted(long_job.clone()));
    }
    let kept = events.recent(usize::MAX);
    let bytes: usize = kept.iter().map(|event| event.frame().len()).sum();
    assert!(
        2 * bytes <= EVENTS_BYTES_MAX && kept.len() > 25,
        "{bytes}: each is kept as a fact, and written"
    );
}

#[tokio::test(start_paused = true)]
async fn one_loop_wakes_every_reader_for_events_and_heartbeats() {
    let events = Events::default();
    let mut readers: Vec<_> = (0..3).map(|_| events.subscribe(None, 3).unwrap()).collect();
    assert!(
        events.subscribe(None, 3).is_none(),
        "there are as many as may be"
    );
    let reading = async {
        for reader in &mut readers {
            assert!(
                reader
                    .next()
                    .await
                    .unwrap()
                    .unwrap()
                    .starts_with(b"retry: ")
            );
            assert_eq!(&*reader.next().await.unwrap().unwrap(), b":\n\n");
        }
        publish(&events, 1);
        for reader in &mut readers {
            assert!(reader.next().await.unwrap().unwrap().starts_with(b"id: "));
        }
        events.end();
        for reader in &mut readers {
            assert_eq!(reader.next().await, None);
        }
    };
    tokio::select! {
        () = events.run() => unreachable!("it has no end"),
        () = reading => {}
    }
    drop(readers);
    let mut late = events.subscribe(Some(0), 3).unwrap();
    assert_eq!(read(&mut late).unwrap().len(), 1, "it gets what is kept");
}

#[test]
fn an_idle_reader_takes_little_memory() {
    // And a place among the readers, with a waker.
    assert!(size_of::<Subscription>() <= 64);
}

#[test]
fn a_list_names_twenty_accounts_and_counts_all() {
    let mut list = ListFacts::default();
    assert!(list.is_empty());
    for cap in 0..30 {
        list.change(|| CapChange {
            account: account("a@x"),
            from: cap,
            to: 2,
        });
    }
    let value = serde_json::to_value(Fact::ListChanged(list)).unwrap();
    assert_eq!(value["changedCount"], 30);
    assert_eq!(value["changed"].as_array().unwrap().len(), 20);
    assert_eq!(
        value["changed"][5],
        json!({"email": "a@x", "alias": "a-1f2e3d4c", "from": 5, "to": 2})
    );
}

#[test]
fn a_state_of_an_account_is_told_with_its_end_and_reason() {
    let fact = Fact::AccountState {
        account: account("a@x"),
        from: AccountState::Available,
        to: AccountState::Cooling,
        until: Some("2026-11-27T12:00:00Z".parse().unwrap()),
        reason: Some("429".into()),
    };
    assert_eq!(
        serde_json::to_value(&fact).unwrap(),
        json!({
            "type": "account-state", "email": "a@x", "alias": "a-1f2e3d4c", "from": "available",
            "to": "cooling", "until": "2026-11-27T12:00:00.000Z", "reason": "429",
        })
    );
    let message = words::message(&fact);
    assert!(message.starts_with("a@x is cooling: "), "{message}");
}
