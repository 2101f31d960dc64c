//! An account that hangs delays only those who wait for it.

use std::sync::Arc;

use harness::{Running, eventually, within};
use http::StatusCode;
use tokio::task::JoinSet;

use super::client::{JOB, task_id, task_path};

/// Fast rounds, and a client that waits for a slot.
const SETTINGS: [(&str, &str); 2] = [("RECONCILE__INTERVAL", "100ms"), ("FORWARD__WAIT", "5m")];

#[tokio::test]
async fn three_hung_accounts_of_ten_delay_no_poll_and_no_job_of_the_others() {
    let emails: Vec<_> = (0..10).map(|n| format!("{n}@x")).collect();
    let accounts: Vec<_> = emails.iter().map(|email| (email.as_str(), 1)).collect();
    let running = Arc::new(Running::configured(&accounts, &SETTINGS).await);
    let mut tasks = Vec::new();
    for email in &emails {
        let prompt = format!(r#"{{"prompt":"x","email":"{email}"}}"#);
        tasks.push(task_id(&running.post(JOB, &prompt).await));
    }
    let (hung, well) = emails.split_at(3);
    for email in hung {
        assert!(running.sim.set_account_hung(email, true));
    }
    // Clients poll the tasks of the hung accounts, and wait; some do not know whose a task is.
    let mut waiting = JoinSet::new();
    for task in tasks[..3].iter().copied().cycle().take(30).chain([1, 2, 3]) {
        let running = Arc::clone(&running);
        waiting.spawn(async move { running.get(&task_path(task)).await });
    }
    let asked_count = |task: i64| {
        let requests = running.sim.requests().into_iter();
        requests
            .filter(|seen| seen.head.path == task_path(task))
            .count()
    };
    eventually(async || {
        tasks[..3]
            .iter()
            .all(|task| asked_count(*task) == 10)
            .then_some(())
    })
    .await;
    for task in &tasks[3..] {
        let polled = running.get(&task_path(*task)).await;
        assert_eq!(polled.status, StatusCode::OK, "{polled:?}");
        assert_eq!(asked_count(*task), 1, "one question answers one poll");
    }
    // The jobs of all accounts end; the next jobs run on those that do not hang.
    running.sim.finish_all();
    for _ in well {
        let started = within(running.post(JOB, r#"{"prompt":"x"}"#)).await;
        task_id(&started);
        let account = started.header("x-kling-account").to_owned();
        assert!(well.contains(&account), "{account}");
    }
    assert_eq!(running.sim.audit().over_limit(), 0);
}
