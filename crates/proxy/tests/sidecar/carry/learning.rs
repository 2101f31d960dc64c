//! The sidecar learns owners from passing answers.

use http::Method;
use kling_sim::{Effect, Fault};
use serde_json::json;

use super::{
    client::{JSON, exchange},
    ownership::{NO_ROUNDS, ROUNDS, Style, account, asked, call, post, three},
};

#[tokio::test]
async fn lists_teach_whose_their_things_are() {
    let running = three(ROUNDS).await;
    // The sidecar does not see these requests.
    let sim = &running.sim;
    let id = sim.submit_directly("c@x", 1)[0];
    assert!(sim.finish(id));
    let token = format!("Bearer {}", sim.token());
    let headers = [("authorization", &*token), JSON];
    let direct = async |path: &str| {
        let path = format!("/v1/kling{path}");
        let body = r#"{"email":"c@x","name":"Ann"}"#;
        exchange(sim.addr(), Method::POST, &path, &headers, body)
            .await
            .json()
    };
    let avatar = direct("/avatars").await["id"].as_str().unwrap().to_owned();
    let element = direct("/elements").await["element"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    for list in ["/avatars", "/elements/", "/assets"] {
        let answer = call(&running, Method::GET, &format!("{list}?email=c@x")).await;
        assert_eq!(account(&answer), "c@x");
    }
    let searched = asked(sim, &Method::GET, "/assets/download").len();
    for path in [
        format!("/assets/download?workIds={id}"),
        format!("/tasks/{id}"),
        format!("/elements/{element}"),
    ] {
        assert_eq!(
            account(&call(&running, Method::GET, &path).await),
            "c@x",
            "{path}"
        );
    }
    assert_eq!(
        asked(sim, &Method::GET, "/assets/download").len(),
        searched + 1
    );
    assert_eq!(asked(sim, &Method::GET, &format!("/tasks/{id}")).len(), 1);
    let files = [
        format!("http://{}/results/{id}-output.mp4", sim.addr()),
        format!("http://{}/results/{id}-cover.png", sim.addr()),
    ];
    for file in files {
        let fields = json!({"video": file});
        let answer = post(&running, Style::Json, "/videos/lipsync", &fields).await;
        assert_eq!(account(&answer), "c@x");
        running.sim.finish_all();
    }
    for path in [format!("/avatars/{avatar}"), format!("/elements/{element}")] {
        assert_eq!(
            account(&call(&running, Method::DELETE, &path).await),
            "c@x",
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_passing_list_of_jobs_teaches_their_owners() {
    let running = three(NO_ROUNDS).await;
    for path in ["/scheduler", "/scheduler/available"] {
        let id = running.sim.submit_directly("c@x", 1)[0].get();
        assert_eq!(call(&running, Method::GET, path).await.status, 200);
        let poll = call(&running, Method::GET, &format!("/tasks/{id}")).await;
        assert_eq!(account(&poll), "c@x");
        let searched = asked(&running.sim, &Method::GET, &format!("/tasks/{id}"));
        assert_eq!(searched.len(), 1, "nobody else was asked: {path}");
    }
}

#[tokio::test]
async fn nothing_is_learnt_from_what_did_not_come_well_and_whole() {
    let id = "300137233318846";
    let list = format!(r#"[{{"id":"{id}"}}]"#);
    let long = format!(r#"[{{"id":"{id}"}},"{}"]"#, "x".repeat(1024 * 1024));
    let running = three(NO_ROUNDS).await;
    for (status, body, is_learnt) in [
        (404, list.clone(), false),
        (200, long, false),
        (200, list[1..].to_owned(), false),
        (200, list, true),
    ] {
        let answer = kling_sim::Answer::new(status).body(body.clone());
        let fault = Fault::new(Effect::Answer(answer)).on("GET", "/avatars");
        running.sim.fault(fault.times(1));
        let told = call(&running, Method::GET, "/avatars?email=b@x").await;
        assert_eq!(told.status, status);
        assert_eq!(told.body, body, "as it came");
        let path = format!("/avatars/{id}");
        call(&running, Method::DELETE, &path).await;
        let sent = asked(&running.sim, &Method::DELETE, &path).pop().unwrap();
        let query = is_learnt.then(|| "email=b%40x".to_owned());
        assert_eq!(sent.head.query, query, "{status} {is_learnt}");
    }
}
