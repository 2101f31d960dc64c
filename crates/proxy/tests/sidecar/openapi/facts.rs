//! Every event is documented with its members.

use std::time::Duration;

use harness::{Document, Running};
use proxy::{
    events::{AccountFacts, CapChange, Events, Fact, Found, JobFacts, ListFacts, Listed},
    pool::{AccountState, Decision, JobEnd},
};
use serde_json::{Value, json};

/// A new kind does not compile until it is here.
fn place(fact: &Fact) -> usize {
    match fact {
        Fact::AccountState { .. } => 0,
        Fact::AccountDrained(_) => 1,
        Fact::JobStarted(_) => 2,
        Fact::JobEnded { .. } => 3,
        Fact::SubmissionLost { .. } => 4,
        Fact::SubmissionDecided { .. } => 5,
        Fact::AnswerUndelivered(_) => 6,
        Fact::ListChanged(_) => 7,
        Fact::SidecarStarted { .. } => 8,
        Fact::Ready(_) => 9,
        Fact::NotReady { .. } => 10,
        Fact::TokenRejected { .. } => 11,
        Fact::TokenAccepted => 12,
        Fact::UpstreamUnreachable { .. } => 13,
        Fact::UpstreamReachable => 14,
        Fact::ListFailed { .. } => 15,
        Fact::ListFetched => 16,
        Fact::RoundsFailed { .. } => 17,
        Fact::RoundsAnswered { .. } => 18,
        Fact::StateFailing { .. } => 19,
        Fact::StateWritten => 20,
    }
}

fn job() -> JobFacts {
    JobFacts {
        request_id: Some("r".into()),
        client: Some("studio".into()),
        operation: Some("/videos/text2video".into()),
        account: Some(AccountFacts::of("a@x")),
        task_id: Some("42".parse().unwrap()),
    }
}

fn list() -> ListFacts {
    let account = AccountFacts::of("a@x");
    let listed = Listed {
        account: account.clone(),
        max_jobs: 2,
    };
    let change = CapChange {
        account,
        from: 2,
        to: 3,
    };
    let mut list = ListFacts::default();
    list.add(|| listed.clone());
    list.remove(|| listed.clone());
    list.change(|| change);
    list
}

/// One of every kind.
fn facts() -> [Fact; 21] {
    let account = AccountFacts::of("a@x");
    [
        Fact::AccountState {
            account: account.clone(),
            from: AccountState::Available,
            to: AccountState::Cooling,
            until: Some(jiff::Timestamp::UNIX_EPOCH),
            reason: Some("why".into()),
        },
        Fact::AccountDrained(account),
        Fact::JobStarted(JobFacts::default()),
        Fact::JobEnded {
            job: job(),
            result: JobEnd::Succeeded,
            duration: Duration::from_secs(60),
        },
        Fact::SubmissionLost {
            job: job(),
            mark: Some("klb-1".into()),
            error: "reset".into(),
        },
        Fact::SubmissionDecided {
            job: job(),
            outcome: Decision::Found,
        },
        Fact::AnswerUndelivered(job()),
        Fact::ListChanged(list()),
        Fact::SidecarStarted { version: "1.0.0" },
        Fact::Ready(Found {
            accounts: 1,
            slots: 2,
            jobs_found: 0,
        }),
        Fact::NotReady {
            reasons: vec!["no-accounts"],
        },
        Fact::TokenRejected {
            status: 401,
            text: "no".into(),
        },
        Fact::TokenAccepted,
        Fact::UpstreamUnreachable {
            error: "refused".into(),
            advice: "look",
        },
        Fact::UpstreamReachable,
        Fact::ListFailed {
            error: "500".into(),
        },
        Fact::ListFetched,
        Fact::RoundsFailed {
            error: "500".into(),
            advice: "look",
        },
        Fact::RoundsAnswered { failed_count: 3 },
        Fact::StateFailing { error: None },
        Fact::StateWritten,
    ]
}

#[tokio::test]
async fn every_event_is_documented_with_its_members() {
    let running = Running::with(&[("a@x", 1)]).await;
    let told = running.get("/openapi.json").await.json();
    let types = told["components"]["schemas"]["Event"]["properties"]["type"]["enum"].clone();
    let mut document = Document::new(told);
    let events = Events::default();
    for (idx, fact) in facts().iter().enumerate() {
        assert_eq!(place(fact), idx);
        assert_eq!(types[idx], fact.kind());
        events.publish(fact);
        let event = events.recent(1).remove(0);
        let event: Value = serde_json::from_str(event.json()).unwrap();
        document.check(&json!({ "$ref": "#/components/schemas/Event" }), &event);
    }
    assert_eq!(types.as_array().unwrap().len(), facts().len());
    assert_eq!(document.unseen(["Event"]), Vec::<String>::new());
}
