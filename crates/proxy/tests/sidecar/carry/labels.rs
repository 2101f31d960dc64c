//! The labels of metrics come from closed sets, whatever the client and the upstream say.

use super::{
    framing::{answer, request},
    sockets::{ANY, Stage},
};

/// The series of calls to the upstream.
async fn series(stage: &Stage) -> Vec<String> {
    let text = stage.running.get("/metrics").await.text;
    let name = r#"kling_balancer_http_requests_total{"#;
    let lines = text.lines().filter(|line| line.starts_with(name));
    let lines = lines.filter(|line| line.contains(r#"route="/v1/kling/*""#));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn an_upstream_and_clients_that_say_everything_make_few_series() {
    /// The registered statuses are some sixty.
    const STATUSES_MAX: usize = 80;
    let stage = Stage::new().await;
    let mut client = stage.client().await;
    let mut upstream = None;
    let mut count = 0;
    for method in ["POST", "BREW", "STEEP"] {
        for status in 200..=999 {
            let call = request(&format!("{method} {ANY}"), &["content-length: 0"], "");
            client.send(call).await;
            let upstream = match &mut upstream {
                Some(upstream) => upstream,
                none => none.insert(stage.upstream().await),
            };
            upstream.head().await;
            let status = format!("{status} Odd");
            upstream
                .send(answer(&status, &["content-length: 0"], ""))
                .await;
            assert!(client.head().await.first.ends_with(&status));
            count += 1;
        }
    }
    let series = series(&stage).await;
    let labelled = |label: &str| series.iter().filter(|it| it.contains(label)).count();
    assert!(series.len() <= 2 * STATUSES_MAX, "{}", series.len());
    assert_eq!(
        labelled(r#"method="POST""#) + labelled(r#"method="other""#),
        series.len()
    );
    for code in ["200", "404", "429", "502", "520", "596", "other"] {
        assert_eq!(labelled(&format!(r#"code="{code}""#)), 2, "{code}");
    }
    let values = series
        .iter()
        .filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
    assert_eq!(values.sum::<usize>(), count, "none is lost");
}
