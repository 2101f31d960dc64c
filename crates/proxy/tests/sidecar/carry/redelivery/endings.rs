//! Clients that close their side, reset the connection, or are answered as it ends.

use super::*;

#[tokio::test]
async fn a_client_that_has_closed_its_sending_side_is_answered() {
    let running = slow(&[]).await;
    let mut half = Sender::new(&running, "", PROMPT).await;
    half.0.shutdown().await.unwrap();
    let answer = half.answer().await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(
        answer.contains(&accepted(&running.sim)[0].to_string()),
        "{answer}"
    );
    eventually(async || {
        let listed = jobs(&running, "").await;
        (listed[0]["isDelivered"] == true).then_some(())
    })
    .await;
    assert_eq!(running.metric(UNDELIVERED).await, 0.0);
}

#[tokio::test]
async fn a_client_that_has_closed_its_sending_side_uses_its_answer_up_though_a_twin_came_and_left()
{
    let running = slow(&[]).await;
    let mut half = Sender::new(&running, "", PROMPT).await;
    eventually(async || {
        let listed = jobs(&running, "").await;
        (listed.len() == 1 && listed[0]["outcome"] == "submitting").then_some(())
    })
    .await;
    half.0.shutdown().await.unwrap();
    drop(Sender::new(&running, "", PROMPT).await);
    let answer = half.answer().await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    eventually(async || {
        let listed = jobs(&running, "").await;
        (listed.len() == 1 && listed[0]["isDelivered"] == true).then_some(())
    })
    .await;
    let another = start(&running, &[], PROMPT).await;
    assert!(!another.headers.contains_key("x-kling-replayed"));
    assert_eq!(accepted(&running.sim).len(), 2);
}

#[tokio::test]
async fn a_client_that_resets_the_connection_behind_its_answer_does_not_have_it() {
    let sim = manual(&ACCOUNTS).start().await.unwrap();
    let running = ready(sim, &[NO_ROUNDS]).await;
    let client = Sender::new(&running, "", PROMPT).await;
    eventually(async || (accepted(&running.sim).len() == 1).then_some(())).await;
    // Wait until the answer is there, and read none of it: closing resets the connection.
    client.0.readable().await.unwrap();
    drop(client);
    let again = start(&running, &[], PROMPT).await;
    assert_redelivered(&again, accepted(&running.sim)[0]);
}

#[tokio::test]
async fn an_answer_that_ends_its_connection_is_missed_like_any_other() {
    let sim = manual(&ACCOUNTS).start().await.unwrap();
    let running = ready(sim, &[NO_ROUNDS]).await;
    let client = Sender::new(&running, "Connection: close\r\n", PROMPT).await;
    client.0.readable().await.unwrap();
    drop(client);
    running
        .until_metric(UNDELIVERED, |count| count == 1.0)
        .await;
    let again = start(&running, &[], PROMPT).await;
    assert_redelivered(&again, accepted(&running.sim)[0]);
}

/// The same start comes again, and is looked at.
async fn come_again(running: &Running) -> Sender {
    let again = Sender::new(running, "", PROMPT).await;
    for _ in 0..10 {
        running.get("/livez").await;
    }
    again
}

#[tokio::test]
async fn a_start_that_overtakes_the_reset_of_its_twin_waits_for_it() {
    let sim = manual(&ACCOUNTS).start().await.unwrap();
    let running = ready(sim, &[NO_ROUNDS]).await;
    // Longer than what the client's system takes of it: it is on its way until the client closes.
    let long = kling_sim::Answer::new(500).body("x".repeat(8 * 1024));
    running
        .sim
        .fault(Fault::new(Effect::Answer(long)).on_job_starts().times(1));
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1024).unwrap();
    let stream = socket.connect(running.addr).await.unwrap();
    let mut first = Sender::over(stream, "", PROMPT).await;
    first.0.shutdown().await.unwrap();
    first.0.readable().await.unwrap();
    let mut again = come_again(&running).await;
    drop(first);
    // It hears what the first would have heard.
    let answer = again.answer().await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert_eq!(running.sim.audit().submission_count, 1);
}

#[tokio::test]
async fn a_start_beside_one_that_has_only_said_all_it_has_to_say_is_another_job() {
    let running = slow(&[]).await;
    let mut first = Sender::new(&running, "", PROMPT).await;
    until_submitted(&running, 1).await;
    first.0.shutdown().await.unwrap();
    first.0.readable().await.unwrap();
    let mut again = come_again(&running).await;
    assert!(first.answer().await.starts_with("HTTP/1.1 200 "));
    let answer = again.answer().await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(!answer.contains("x-kling-replayed"), "{answer}");
    assert_eq!(accepted(&running.sim).len(), 2);
}

#[tokio::test]
async fn a_start_that_is_read_after_it_was_sent_again_is_no_job() {
    let running = slow(&[]).await;
    let mut again = Sender::new(&running, "", PROMPT).await;
    until_submitted(&running, 1).await;
    // Its client left before it was read.
    let first = Sender::new(&running, "", PROMPT).await;
    drop(first);
    assert!(again.answer().await.starts_with("HTTP/1.1 200 "));
    // The series begins with it.
    let gone = format!("{GONE} 1\n");
    eventually(async || {
        let text = running.get("/metrics").await.text;
        text.contains(&gone).then_some(())
    })
    .await;
    assert_eq!(running.sim.audit().submission_count, 1);
}

/// A client whose submission was lost, and whose answer is there.
async fn told_of_a_lost_start(running: &Running) -> Sender {
    running
        .sim
        .fault(Fault::new(Effect::StallAfter).on_job_starts().times(1));
    let client = Sender::new(running, "", PROMPT).await;
    client.0.readable().await.unwrap();
    client
}

#[tokio::test]
async fn a_client_that_has_not_read_that_its_start_was_lost_starts_no_other() {
    let sim = manual(&ACCOUNTS).start().await.unwrap();
    let running = ready(sim, &[NO_ROUNDS, ("UPSTREAM__REQUEST_TIMEOUT", "300ms")]).await;
    drop(told_of_a_lost_start(&running).await);
    let again = start(&running, &[], PROMPT).await;
    again.assert_refused(504, "outcome-unknown");
    assert_eq!(running.sim.audit().submission_count, 1);
}

#[tokio::test]
async fn a_client_that_knows_that_its_start_was_lost_may_start_another() {
    let sim = manual(&ACCOUNTS).start().await.unwrap();
    let running = ready(sim, &[NO_ROUNDS, ("UPSTREAM__REQUEST_TIMEOUT", "300ms")]).await;
    let mut client = told_of_a_lost_start(&running).await;
    assert!(client.answer().await.starts_with("HTTP/1.1 504 "));
    drop(client);
    let another = start(&running, &[], PROMPT).await;
    assert_eq!(another.status, StatusCode::OK, "{another:?}");
    assert_eq!(running.sim.audit().submission_count, 2);
}
