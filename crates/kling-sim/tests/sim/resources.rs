//! Operations without a job: who may see what, and what their answers look like.

use std::time::Duration;

use kling_sim::{JobDuration, REQUEST_BODY_BYTES_MAX, Sim};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{Answer, delete, get, open, open_head, open_with, post, post_form, read};

async fn sim(emails: &[&str]) -> Sim {
    let sim = Sim::builder().job_duration(JobDuration::Manual);
    let sim = emails.iter().fold(sim, |sim, email| sim.account(*email, 5));
    sim.mcp_pause(Duration::ZERO).start().await.unwrap()
}

async fn upload(sim: &Sim, path: &str, media: &str, body: &[u8]) -> Answer {
    let head = format!("Content-Type: {media}\r\n");
    read(open_with(sim, "POST", path, &head, body).await).await
}

#[tokio::test]
async fn every_call_about_an_account_names_it_when_there_are_several() {
    let reads = [
        "/tasks",
        "/tasks/1",
        "/tts/voices",
        "/avatars",
        "/elements",
        "/elements/tags",
        "/elements/voices",
        "/elements/u_1",
        "/assets",
        "/assets/download?workIds=1",
        "/assets/uploaded",
        "/videos/effects",
        "/videos/motions",
    ];
    let deletes = [
        "/tasks/1",
        "/avatars/1",
        "/elements/u_1",
        "/assets/uploaded?id=1",
    ];
    let posts = [
        "/tts/create",
        "/avatars",
        "/elements",
        "/images/recognize-faces",
    ];
    for (emails, needs_email) in [(&["a@x", "b@x"][..], true), (&["a@x"], false)] {
        let sim = sim(emails).await;
        for path in reads {
            let status = get(&sim, path).await.status;
            assert_eq!(status == 400, needs_email, "GET {path}: {status}");
        }
        for path in deletes {
            let status = delete(&sim, path).await.status;
            let always = path.starts_with("/assets/uploaded");
            assert_eq!(
                status == 400,
                needs_email || always,
                "DELETE {path}: {status}"
            );
        }
        for path in posts {
            let status = post(&sim, path, &json!({"imageReference": "u"}))
                .await
                .status;
            assert_eq!(status == 400, needs_email, "POST {path}: {status}");
        }
        let status = upload(&sim, "/assets", "image/png", b"x").await.status;
        assert_eq!(status == 400, needs_email, "POST /assets: {status}");
    }
}

#[tokio::test]
async fn an_upload_is_listed_and_deleted_by_its_owner() {
    let sim = sim(&["a@x", "b@x"]).await;
    let uploaded = upload(&sim, "/assets/?email=a@x", "image/png", b"\x89PNG").await;
    assert_eq!(uploaded.status, 200);
    let shown = uploaded.json();
    assert_eq!(
        (&shown["status"], &shown["message"]),
        (&json!(3), &json!(""))
    );
    assert!(
        shown["url"]
            .as_str()
            .unwrap()
            .starts_with("https://cdn.example/")
    );
    let video = upload(&sim, "/assets?email=a@x", "video/mp4; x=y", b"mp4").await;
    assert_eq!(video.json()["status"], 1);

    let list = get(&sim, "/assets/uploaded/?email=a@x").await.json();
    let list = list["uploadAssetsList"].as_array().unwrap().clone();
    assert_eq!(list.len(), 2);
    let id = list[1]["id"].as_str().unwrap();
    assert_eq!((id.len(), &list[1]["fileSize"]), (18, &json!(4)));
    let of_b = get(&sim, "/assets/uploaded?email=b@x").await.json();
    assert_eq!(of_b, json!({"uploadAssetsList": []}));

    let path = |email: &str| format!("/assets/uploaded/?email={email}&id={id},7");
    assert_eq!(delete(&sim, &path("b@x")).await.status, 404);
    let deleted = delete(&sim, &path("a@x")).await.json();
    assert_eq!(deleted, json!({"deleted": 1, "ids": [id]}));
    assert_eq!(delete(&sim, &path("a@x")).await.status, 404);
}

#[tokio::test]
async fn an_upload_of_a_wrong_type_or_size_is_refused() {
    let sim = sim(&["a@x"]).await;
    for media in ["image/gif", "text/plain", ""] {
        assert_eq!(
            upload(&sim, "/assets", media, b"x").await.status,
            400,
            "{media}"
        );
    }
    let large = vec![0; 10 * 1024 * 1024 + 1];
    let refused = upload(&sim, "/assets", "image/jpeg", &large).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("10485760"), "{}", refused.text());
    assert_eq!(
        upload(&sim, "/assets", "video/mp4", &large).await.status,
        200
    );
}

#[tokio::test]
async fn a_hundred_megabytes_are_counted_and_not_kept() {
    const LENGTH: usize = 100 * 1024 * 1024;
    let sim = sim(&["a@x"]).await;
    let head = "Content-Type: video/mp4\r\n";
    let mut stream = open_head(&sim, "POST", "/assets/", head, LENGTH).await;
    let chunk = vec![7; 1024 * 1024];
    for _ in 0..100 {
        stream.write_all(&chunk).await.unwrap();
    }
    assert_eq!(read(stream).await.status, 200);
    let seen = sim.requests().pop().unwrap();
    assert_eq!((seen.byte_count, seen.is_complete), (LENGTH as u64, true));
    assert_eq!(seen.body.len(), REQUEST_BODY_BYTES_MAX);
}

#[tokio::test]
async fn avatars_and_elements_are_known_to_their_account_only() {
    let sim = sim(&["a@x", "b@x"]).await;
    let of_a = json!({"email": "a@x", "name": "Ann"});
    let avatar = post(&sim, "/avatars", &of_a).await.json();
    assert_eq!(avatar["status"], "SUCCESS");
    let avatar_id = avatar["id"].as_str().unwrap();
    let element = post_form(&sim, "/elements", &[("email", "a@x"), ("name", "Ann")]).await;
    let element = element.json()["element"].clone();
    let element_id = element["id"].as_str().unwrap();
    assert!(element_id.starts_with("u_"));

    assert_eq!(
        get(&sim, "/avatars?email=a@x").await.json(),
        json!([avatar])
    );
    assert_eq!(get(&sim, "/avatars?email=b@x").await.json(), json!([]));
    assert_eq!(
        get(&sim, "/avatars?email=a@x&type=templates").await.json(),
        json!([])
    );
    let listed = get(&sim, "/elements?email=a@x").await.json();
    let expected = json!({"elementsList": [element], "pageNum": 1, "pageSize": 50, "total": 1});
    assert_eq!(listed, expected);

    for (kind, id) in [("avatars", avatar_id), ("elements", element_id)] {
        let path = |email: &str| format!("/{kind}/{id}?email={email}");
        if kind == "elements" {
            let shown = get(&sim, &path("a@x")).await.json();
            assert_eq!(shown, json!({"element": element}));
            assert_eq!(get(&sim, &path("b@x")).await.status, 404);
        }
        let refused = delete(&sim, &path("b@x")).await;
        assert_eq!(refused.status, 404);
        assert!(refused.json()["error"].as_str().unwrap().ends_with(id));
        assert_eq!(
            delete(&sim, &path("a@x")).await.json(),
            json!({"deleted": null})
        );
        assert_eq!(delete(&sim, &path("a@x")).await.status, 404);
    }
}

#[tokio::test]
async fn a_job_is_made_only_of_what_its_account_has() {
    let sim = sim(&["a@x", "b@x"]).await;
    let of_a = json!({"email": "a@x", "name": "Ann"});
    let avatar = post(&sim, "/avatars", &of_a).await.json()["id"].clone();
    let element = post(&sim, "/elements", &of_a).await.json()["element"]["id"].clone();
    let tasks = sim.submit_directly("a@x", 2);
    let (done, running) = (tasks[0], tasks[1]);
    assert!(sim.finish(done));
    let (done, running) = (done.get(), running.get());
    let cases = [
        ("/videos/extend", json!({"task_id": done})),
        ("/videos/extend", json!({"task_id": running.to_string()})),
        ("/images/upscale", json!({"task_id": done, "workId": done})),
        ("/images/upscale", json!({"workId": done.to_string()})),
        ("/avatars/video", json!({"avatarId": avatar})),
        ("/videos/omni", json!({"element_1": element})),
        (
            "/images/omni",
            json!({"element_1": "o_102", "element_7": element}),
        ),
    ];
    for (path, fields) in cases {
        let mut started = Vec::new();
        for email in ["a@x", "b@x"] {
            let mut body = fields.clone();
            body["email"] = json!(email);
            let answer = post(&sim, path, &body).await;
            started.push(answer.status);
            if email == "b@x" {
                assert!(answer.json()["error"].is_string(), "{path}: {answer:?}");
            }
        }
        assert_eq!(started, [200, 404], "{path} {fields}");
        sim.finish_all();
    }
    assert_eq!(sim.audit().account("b@x").unwrap().accepted, 0);
    // Official things belong to all accounts, and an unfinished work cannot be used by any.
    let official = json!({"email": "b@x", "avatarId": "12345678", "element_1": "o_1", "workId": -7,
        "task_id": null});
    assert_eq!(post(&sim, "/avatars/video", &official).await.status, 200);
    let running = sim.submit_directly("a@x", 1)[0].get();
    let unmade = json!({"email": "a@x", "workId": running});
    assert_eq!(post(&sim, "/images/upscale", &unmade).await.status, 404);
}

#[tokio::test]
async fn speech_is_a_finished_resource_and_takes_no_slot() {
    let sim = sim(&["a@x"]).await;
    let spoken = post(&sim, "/tts/create", &json!({"text": "hello"}))
        .await
        .json();
    assert_eq!(
        (&spoken["status"], &spoken["status_final"]),
        (&json!(99), &json!(true))
    );
    assert!(
        spoken["resource"]["resource"]
            .as_str()
            .unwrap()
            .ends_with(".mp3")
    );
    assert_eq!(sim.executing("a@x"), 0);
    assert_eq!(sim.audit().submission_count, 0);
}

#[tokio::test]
async fn lists_that_are_the_same_for_all_have_their_shape() {
    let sim = sim(&["a@x"]).await;
    for path in [
        "/tts/voices",
        "/elements/voices",
        "/elements/tags",
        "/videos/effects",
    ] {
        assert!(get(&sim, path).await.json().is_array(), "{path}");
    }
    assert_eq!(get(&sim, "/videos/motions").await.json()[0]["workId"], -1);
    let faces = post(
        &sim,
        "/images/recognize-faces",
        &json!({"imageReference": "u"}),
    )
    .await;
    assert_eq!(faces.json()["status"], 0);
    let refused = post(&sim, "/images/recognize-faces", &json!({})).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("imageReference"));
}

#[tokio::test]
async fn accounts_are_added_resized_and_removed() {
    let sim = sim(&["a@x"]).await;
    let account = json!({"email": "b@x", "maxJobs": 7, "password": "p"});
    let added = post(&sim, "/accounts", &account).await;
    assert_eq!((added.status, &added.json()["maxJobs"]), (201, &json!(7)));
    assert!(!added.text().contains("\"p\""), "the password is not shown");
    sim.set_account_error("b@x", Some("broken"));
    let form = [("email", "b@x"), ("maxJobs", "50")];
    assert_eq!(post_form(&sim, "/accounts", &form).await.status, 201);
    let list = get(&sim, "/accounts").await.json();
    assert_eq!(
        (&list["b@x"]["maxJobs"], &list["b@x"]["error"]),
        (&json!(50), &Value::Null)
    );
    for bad in [
        json!({"maxJobs": 5}),
        json!({"email": "c@x"}),
        json!({"email": "c@x", "maxJobs": 51}),
    ] {
        assert_eq!(post(&sim, "/accounts", &bad).await.status, 400, "{bad}");
    }
    assert_eq!(delete(&sim, "/accounts/b%40x").await.status, 204);
    assert_eq!(delete(&sim, "/accounts/b%40x").await.status, 404);
}

#[tokio::test]
async fn events_of_mcp_come_one_by_one() {
    let sim = sim(&["a@x", "b@x"]).await;
    let answer = read(open(&sim, "POST", "/mcp", "{}").await).await;
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(answer.text().matches("event: message\ndata: {").count(), 3);

    let never = Duration::from_hours(1);
    let slow = Sim::builder().account("a@x", 1).mcp_pause(never);
    let slow = slow.start().await.unwrap();
    let mut stream = open(&slow, "POST", "/mcp", "{}").await;
    let mut wire = Vec::new();
    while !wire.ends_with(b"\n\n\r\n") {
        assert_ne!(
            stream.read_buf(&mut wire).await.unwrap(),
            0,
            "closed too early"
        );
    }
    let first = Answer::parse(&wire, None);
    assert!(first.text().contains("part 1") && !first.text().contains("part 2"));
}

#[tokio::test]
async fn a_head_is_that_of_the_get() {
    let sim = sim(&["a@x"]).await;
    let head = read(open(&sim, "HEAD", "/accounts", "").await).await;
    let whole = get(&sim, "/accounts").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.content_length(), whole.body.len());
}
