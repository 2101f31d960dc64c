//! One restart, by SIGTERM or by SIGKILL: what was known before is known after it.

use std::time::Duration;

use harness::{Answer, eventually};
use http::Method;
use jiff::Timestamp;
use kling_sim::{Answer as Scripted, Effect, ListFault, Outcome};
use serde_json::{Value, json};

use crate::restarted::{ACCOUNTS, JOB, JSON, Restarted, SIGNALS, Signal, body};

/// How far two displays of one moment may differ.
const ROUNDING: Duration = Duration::from_secs(1);

fn id_path(lease: &Value) -> String {
    format!("/leases/{}", lease["leaseId"].as_str().unwrap())
}

#[track_caller]
fn task(answer: &Answer) -> i64 {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["task"]["id"].as_i64().unwrap()
}

/// What was so before a restart.
struct Before {
    /// Of a pick without a job, and of one whose client named a job.
    free_lease: Value,
    bound_lease: Value,
    /// The accounts that are left alone.
    resting: [Value; 3],
    keyed_task: i64,
    lost_lease: Value,
    submissions: u64,
}

impl Before {
    async fn new(restarted: &Restarted) -> Self {
        let drained = restarted
            .call(Method::POST, "/accounts/drained@x/drain", &[], "")
            .await;
        assert_eq!(drained.status, 200);
        let refusals = [
            ("cooling@x", Scripted::new(429).header("retry-after", "50")),
            ("broken@x", Scripted::new(596)),
            ("poor@x", Scripted::new(412)),
        ];
        for (email, refusal) in refusals {
            restarted.fail_next(email, Effect::Answer(refusal));
            restarted.start(email, None).await;
        }
        let keyed_task = task(&restarted.start("keyed@x", Some("accepted")).await);
        restarted.abandon("gone@x").await;

        restarted.fail_next("lost@x", Effect::ResetBefore);
        let lost = restarted.start("lost@x", Some("lost")).await;
        lost.assert_refused(502, "outcome-unknown");
        let listed = restarted.call(Method::GET, "/leases", &[], "").await.json();
        let mut leases = listed["leases"].as_array().unwrap().iter();
        let lost_lease = leases.find(|lease| lease["state"] == "uncertain").unwrap();

        let bound_lease = restarted.pick("leased@x", "bound").await;
        let started = restarted.sim.submit_directly("leased@x", 1);
        let named = json!({"taskId": started[0].to_string()}).to_string();
        let path = id_path(&bound_lease);
        let bound = restarted.call(Method::PUT, &path, &[JSON], &named).await;
        assert_eq!(bound.json()["state"], "bound", "{bound:?}");
        // The last: what was written before a grant is durable with it.
        let free_lease = restarted.pick("leased@x", "free").await;
        let resting = ["cooling@x", "broken@x", "poor@x"];
        let [cooling, broken, poor] = resting.map(|email| restarted.account(email));
        Self {
            free_lease,
            bound_lease: bound.json(),
            resting: [cooling.await, broken.await, poor.await],
            keyed_task,
            lost_lease: lost_lease.clone(),
            submissions: restarted.sim.audit().submission_count,
        }
    }

    /// Picks keep their slots, and their leases can be given back.
    async fn assert_picks(&self, after: &Restarted) {
        assert_eq!(after.account("leased@x").await["inFlight"], 2);
        let again = after.pick("leased@x", "free").await;
        assert_eq!(again["leaseId"], self.free_lease["leaseId"]);
        let path = id_path(&self.bound_lease);
        let bound = after.call(Method::GET, &path, &[], "").await.json();
        assert_eq!(bound["taskId"], self.bound_lease["taskId"], "{bound}");
        assert_eq!(bound["requestId"], self.bound_lease["requestId"]);
        assert!(bound["requestId"].is_string(), "{bound}");
        let path = id_path(&self.free_lease);
        assert_eq!(after.delete(&path).await, 204);
        assert_eq!(after.delete(&path).await, 404, "it comes back once");
        assert_eq!(after.account("leased@x").await["inFlight"], 1);
    }

    /// Accounts that were left alone are, for as long as they would have been.
    async fn assert_rest(&self, after: &Restarted) {
        assert_eq!(after.account("drained@x").await["state"], "draining");
        let until = |account: &Value| -> Timestamp {
            let until = account["until"].as_str();
            until
                .unwrap_or_else(|| panic!("{account}"))
                .parse()
                .unwrap()
        };
        let states = ["cooling", "quarantined", "parked"];
        for (before, state) in self.resting.iter().zip(states) {
            assert_eq!(before["state"], state, "{before}");
            let now = after.account(before["email"].as_str().unwrap()).await;
            assert_eq!(now["state"], state, "{now}");
            let difference = until(before).duration_since(until(&now)).unsigned_abs();
            assert!(difference <= ROUNDING, "{before} {now}");
        }
        let path = "/pick?email=cooling@x";
        let refused = after.call(Method::POST, path, &[], "").await;
        refused.assert_refused(429, "cooling-down");
        let seconds: u64 = refused.header("retry-after").parse().unwrap();
        assert!((2..=50).contains(&seconds), "{refused:?}");
        let resumed = after.call(Method::POST, "/accounts/drained@x/resume", &[], "");
        assert_eq!(resumed.await.status, 200);
        assert_eq!(after.account("drained@x").await["state"], "available");
    }

    /// What was started is not started again, with a key or without.
    async fn assert_jobs(&self, after: &Restarted) {
        let again = after.start("keyed@x", Some("accepted")).await;
        assert_eq!(task(&again), self.keyed_task);
        let missed = after.start("gone@x", None).await;
        assert_eq!(missed.header("x-kling-replayed"), "undelivered");
        let audit = after.sim.audit();
        let started = audit.submissions.iter();
        let mut started = started.filter(|one| one.email.as_deref() == Some("gone@x"));
        let outcome = started.next().unwrap().outcome;
        let is_it = Outcome::Accepted(task(&missed).into());
        assert_eq!(outcome, is_it);
        assert_eq!(audit.submission_count, self.submissions, "{audit}");
    }

    /// A submission of which nothing is known holds its slot and its key.
    async fn assert_doubts(&self, after: &Restarted) {
        assert_eq!(after.account("lost@x").await["uncertain"], 1);
        let again = after.start("lost@x", Some("lost")).await;
        again.assert_refused(409, "key-in-use");
        let path = id_path(&self.lost_lease);
        let lost = after.call(Method::GET, &path, &[], "").await.json();
        for member in ["operation", "requestId"] {
            assert_eq!(lost[member], self.lost_lease[member], "{lost}");
            assert!(lost[member].is_string(), "{lost}");
        }
        assert_eq!(after.delete(&path).await, 204);
        assert_eq!(after.account("lost@x").await["inFlight"], 0);
        task(&after.start("lost@x", Some("lost")).await);
    }
}

#[tokio::test]
async fn what_was_known_before_a_restart_is_known_after_it() {
    for signal in SIGNALS {
        // Nothing is decided by time.
        let settings = [("RECONCILE__SETTLE", "1h")];
        let before = Restarted::new(&settings).await;
        let known = Before::new(&before).await;
        let after = before.restart(signal).await;
        after.until_ready().await;
        known.assert_picks(&after).await;
        known.assert_rest(&after).await;
        known.assert_jobs(&after).await;
        known.assert_doubts(&after).await;
        let audit = after.sim.audit();
        assert_eq!(audit.over_limit(), 0, "{signal:?}: {audit}");
    }
}

#[tokio::test]
async fn without_the_upstream_the_last_list_is_shown_and_nothing_is_granted() {
    for signal in SIGNALS {
        let settings = [
            ("ACCOUNTS__TIMEOUT", "1s"),
            ("UPSTREAM__REQUEST_TIMEOUT", "1s"),
        ];
        let before = Restarted::new(&settings).await;
        // The list was written before a grant was told.
        before.pick("keyed@x", "written").await;
        before.sim.list_fault(ListFault::Stalled);
        before.sim.fault(Effect::StallBefore);
        let after = before.restart(signal).await;
        let listed = after.call(Method::GET, "/accounts", &[], "").await.json();
        let listed = listed["accounts"].as_array().unwrap().iter();
        let emails: Vec<_> = listed.map(|it| it["email"].as_str().unwrap()).collect();
        assert_eq!(emails, ACCOUNTS.map(|(email, _)| email), "{signal:?}");
        let refused = after.call(Method::POST, "/pick", &[], "").await;
        refused.assert_refused(503, "learning");
        after.sim.clear_list_fault();
        after.sim.clear_faults();
        after.until_ready().await;
        after.pick("keyed@x", "now").await;
    }
}

#[tokio::test]
async fn a_submission_that_a_kill_interrupts_is_found_by_its_key() {
    let settings = [("RECONCILE__SETTLE", "1s")];
    let before = Restarted::new(&settings).await;
    before.fail_next("keyed@x", Effect::StallAfter);
    let addr = before.program.addr;
    let interrupted = tokio::spawn(async move {
        let headers = [JSON, ("idempotency-key", "k")];
        let body = body("keyed@x");
        let sent = harness::try_send(addr, Method::POST, JOB, &headers, &body);
        sent.await.is_err()
    });
    eventually(async || (before.sim.executing("keyed@x") == 1).then_some(())).await;
    let after = before.restart(Signal::Kill).await;
    assert!(interrupted.await.unwrap(), "its client was not answered");
    after.until_ready().await;
    let found = eventually(async || {
        let answer = after.start("keyed@x", Some("k")).await;
        if answer.status == 409 {
            answer.assert_refused(409, "key-in-use");
            return None;
        }
        Some(task(&answer))
    })
    .await;
    let audit = after.sim.audit();
    let outcomes: Vec<_> = audit.submissions.iter().map(|one| one.outcome).collect();
    assert_eq!(outcomes, [Outcome::Accepted(found.into())]);
    after.sim.finish_all();
    eventually(async || {
        let account = after.account("keyed@x").await;
        (account["inFlight"] == 0).then_some(())
    })
    .await;
}
