//! Every operation that starts a job takes JSON and multipart, and one slot.

use kling_sim::{JobDuration, Sim};
use serde_json::json;

use crate::client::{get, post, post_form, submit};

/// Every job start of the API, and what Kling calls its tasks.
const JOB_STARTS: [(&str, &str); 16] = [
    ("/avatars/video", "m2v_avatar"),
    ("/videos/text2video", "m2v_txt2video"),
    ("/videos/image2video-frames", "m2v_img2video_hq"),
    ("/videos/image2video-elements", "m2v_multi_img2video"),
    ("/videos/image2video-effects", "m2v_effects"),
    ("/videos/extend", "m2v_extend_video"),
    ("/videos/lipsync", "m2v_video_lip_sync"),
    ("/videos/motion-create", "m2v_motion"),
    ("/videos/motion-upload", "m2v_motion_upload"),
    ("/videos/add-sound", "kwave_video2audio"),
    ("/videos/omni", "m2v_omni_video"),
    ("/images/virtual-try-on", "mmu_img2img_aitryon"),
    ("/images/kolors", "mmu_txt2img_aiweb"),
    ("/images/kolors-elements", "mmu_multi_img2img"),
    ("/images/upscale", "mmu_image_upscale_aiweb"),
    ("/images/omni", "mmu_omni_image"),
];

async fn sim(max_jobs: u32) -> Sim {
    let sim = Sim::builder().account("a@x", max_jobs).account("b@x", 50);
    sim.job_duration(JobDuration::Manual).start().await.unwrap()
}

#[tokio::test]
async fn each_takes_json_and_multipart_and_a_slot() {
    let sim = sim(50).await;
    let json = json!({"email": "a@x", "prompt": "p", "count": 4, "maxJobs": 50});
    let form = [
        ("email", "a@x"),
        ("prompt", "p"),
        ("imageCount", "4"),
        ("maxJobs", "50"),
    ];
    let mut started = Vec::new();
    for (path, task_type) in JOB_STARTS {
        for answer in [
            post(&sim, path, &json).await,
            post_form(&sim, path, &form).await,
        ] {
            let task = answer.json()["task"].take();
            assert_eq!(
                (answer.status, &task["type"]),
                (200, &json!(task_type)),
                "{path}"
            );
            assert_eq!(task["status"], 5);
            started.push(task["id"].clone());
        }
    }
    let scheduled = get(&sim, "/scheduler").await.json();
    let listed = scheduled.as_array().unwrap().iter();
    let listed: Vec<_> = listed.map(|row| row["id"].clone()).collect();
    assert_eq!(listed, started);
    assert_eq!((sim.executing("a@x"), sim.executing("b@x")), (32, 0));
    assert_eq!(sim.audit().submission_count, 32);
}

#[tokio::test]
async fn all_share_the_slots_of_an_account() {
    let sim = sim(1).await;
    let body = json!({"email": "a@x", "prompt": "p"});
    assert_eq!(post(&sim, "/images/kolors", &body).await.status, 200);
    for (path, _) in JOB_STARTS {
        assert_eq!(post(&sim, path, &body).await.status, 429, "{path}");
    }
    assert_eq!(sim.audit().account("a@x").unwrap().peak, 1);
}

#[tokio::test]
async fn adding_sound_answers_without_the_name_of_its_status() {
    let sim = sim(2).await;
    let body = json!({"email": "a@x"});
    let sound = post(&sim, "/videos/add-sound", &body).await.json();
    let motion = post(&sim, "/videos/motion-create", &body).await.json();
    let has = |answer: &serde_json::Value, field| answer["task"].get(field).is_some();
    assert!(!has(&sound, "status_name") && !has(&sound, "status_final") && has(&sound, "status"));
    assert!(has(&motion, "status_name") && has(&motion, "status_final"));
}

#[tokio::test]
async fn moderation_answers_with_a_pair_of_texts() {
    let sim = sim(1).await;
    let refused = submit(&sim, &json!({"email": "a@x", "prompt": "forbidden fruit"})).await;
    let expected = json!({
        "error": "The prompt violates the community guidelines (CM_EXT.POther)",
        "message": "Service busy (CM_EXT.POther)",
    });
    assert_eq!((refused.status, refused.json()), (500, expected));
    assert_eq!(sim.executing("a@x"), 0);
}

#[tokio::test]
async fn a_form_without_its_boundary_or_with_two_accounts_is_refused() {
    let sim = sim(1).await;
    let two = [("email", "a@x"), ("email", "b@x"), ("prompt", "p")];
    let refused = post_form(&sim, "/videos/text2video", &two).await;
    assert_eq!(refused.status, 400);
    assert!(
        refused.text().contains("email must be given once"),
        "{}",
        refused.text()
    );
    assert_eq!(post_form(&sim, "/videos/omni", &[]).await.status, 400);
}
