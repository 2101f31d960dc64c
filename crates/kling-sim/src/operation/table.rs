//! All operations, one row each, and the search for a row by method and path.

use super::{
    Action as A, Body, Content, JobKind, Operation as Op, Operation,
    Selector::{Query, QueryAlways, Unneeded},
};

/// Every operation the simulator knows; the first match wins, so literals stand before `{…}`.
///
/// Task types that no page shows are invented, in the style of their neighbours.
#[rustfmt::skip]
static OPERATIONS: [Operation; 46] = [
    Op::get("/accounts", Unneeded, A::ListAccounts),
    Op::post("/accounts", A::SaveAccount).selected_by(Unneeded).requires(&["email", "maxJobs"]),
    Op::get("/accounts/{email}", Unneeded, A::ShowAccount),
    Op::delete("/accounts/{email}", Unneeded, A::RemoveAccount),
    Op::get("/scheduler", Unneeded, A::Scheduler),
    Op::get("/scheduler/available", Unneeded, A::SchedulerAvailable),
    Op::delete("/scheduler/{task_id}", Unneeded, A::StopTracking),

    Op::get("/tasks", Query, A::ListTasks),
    Op::get("/tasks/{task_id}", Query, A::ShowTask),
    Op::delete("/tasks/{task_id}", Query, A::DeleteTask),
    Op::get("/tts/voices", Query, A::Canned(VOICES)),
    Op::post("/tts/create", A::Speak),

    Op::get("/avatars", Query, A::ListAvatars),
    Op::post("/avatars", A::CreateAvatar),
    Op::job("/avatars/video", "m2v_avatar", Content::Video),
    Op::delete("/avatars/{avatar_id}", Query, A::DeleteAvatar),
    Op::get("/elements", Query, A::ListElements),
    Op::post("/elements", A::CreateElement),
    Op::get("/elements/tags", Query, A::Canned(TAGS)),
    Op::get("/elements/voices", Query, A::Canned(VOICES)),
    Op::get("/elements/{element_id}", Query, A::ShowElement),
    Op::delete("/elements/{element_id}", Query, A::DeleteElement),

    Op::get("/assets", Query, A::ListAssets),
    Op::get("/assets/download", Query, A::Download),
    Op::post("/assets", A::Upload).selected_by(Query).reading(Body::Upload),
    Op::get("/assets/uploaded", Query, A::ListUploads),
    Op::delete("/assets/uploaded", QueryAlways, A::DeleteUploads),

    Op::get("/videos/effects", Query, A::Canned(EFFECTS)),
    Op::post("/videos/text2video", A::StartJob(TEXT_TO_VIDEO)).requires(&["prompt"]),
    Op::job("/videos/image2video-frames", "m2v_img2video_hq", Content::Video),
    Op::job("/videos/image2video-elements", "m2v_multi_img2video", Content::Video),
    Op::job("/videos/image2video-effects", "m2v_effects", Content::Video),
    Op::job("/videos/extend", "m2v_extend_video", Content::Video),
    Op::job("/videos/lipsync", "m2v_video_lip_sync", Content::Video),
    Op::get("/videos/motions", Query, A::Canned(MOTIONS)),
    Op::job("/videos/motion-create", "m2v_motion", Content::Video),
    Op::job("/videos/motion-upload", "m2v_motion_upload", Content::Video),
    Op::post("/videos/add-sound", A::StartJob(ADD_SOUND)),
    Op::job("/videos/omni", "m2v_omni_video", Content::Video),

    Op::job("/images/virtual-try-on", "mmu_img2img_aitryon", Content::Image),
    Op::job("/images/kolors", "mmu_txt2img_aiweb", Content::Image),
    Op::job("/images/kolors-elements", "mmu_multi_img2img", Content::Image),
    Op::post("/images/recognize-faces", A::Canned(FACES)).requires(&["imageReference"]),
    Op::job("/images/upscale", "mmu_image_upscale_aiweb", Content::Image),
    Op::job("/images/omni", "mmu_omni_image", Content::Image),

    Op::post("/mcp", A::Mcp).selected_by(Unneeded).reading(Body::Ignored),
];

/// The job of `POST /videos/text2video`. A second tool that starts jobs without a request starts
/// this one too.
pub(crate) const TEXT_TO_VIDEO: JobKind = JobKind {
    task_type: "m2v_txt2video",
    content: Content::Video,
    names_status: true,
};

const ADD_SOUND: JobKind = JobKind {
    task_type: "kwave_video2audio",
    content: Content::Video,
    names_status: false,
};

const VOICES: &str =
    r#"[{"speakerId":"chat1_female_new-3","speakerName":"Annie","language":"en"}]"#;
const TAGS: &str = r#"[{"id":"o_102","name":"character"}]"#;
const EFFECTS: &str = r#"[{"effect":"hug","title":"Hug","inputCount":2}]"#;
const MOTIONS: &str = r#"[{"assetId":"motion_1","workId":-1,"url":"https://cdn.example/m.mp4"}]"#;
const FACES: &str = r#"{"status":0,"message":"","faceItems":[{"faceId":"0"}],"mediaInfo":{}}"#;

/// Finds the operation, and the segment in place of the `{…}` of its path.
pub(crate) fn find<'path>(
    method: &str,
    path: &'path str,
) -> Option<(&'static Operation, &'path str)> {
    // hyper leaves out the body of an answer to HEAD.
    let method = if method == "HEAD" { "GET" } else { method };
    let mut candidates = OPERATIONS.iter().filter(|row| row.method == method);
    candidates.find_map(|row| Some((row, row.matches(path)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: &str, path: &str) -> Option<(String, String)> {
        let (row, segment) = find(method, path)?;
        Some((row.to_string(), segment.to_owned()))
    }

    #[test]
    fn every_row_is_found_at_its_own_path() {
        for row in &OPERATIONS {
            let path = row.path.replace(['{', '}'], "");
            assert_eq!(found(row.method, &path).unwrap().0, row.to_string());
        }
    }

    #[test]
    fn literals_win_and_a_segment_is_one_segment() {
        let row = |method, path| found(method, path).map(|(row, _)| row);
        assert_eq!(row("GET", "/elements/tags").unwrap(), "GET /elements/tags");
        let (element, id) = found("GET", "/elements/u_1").unwrap();
        assert_eq!((&*element, &*id), ("GET /elements/{element_id}", "u_1"));
        assert_eq!(row("HEAD", "/accounts").unwrap(), "GET /accounts");
        for (method, path) in [
            ("GET", "/elements/u_1/x"),
            ("GET", "/elements/"),
            ("POST", "/tasks/1"),
            ("GET", "/videos/text2video"),
        ] {
            assert_eq!(row(method, path), None, "{method} {path}");
        }
    }

    #[test]
    fn sixteen_operations_start_a_job() {
        let starts = OPERATIONS.iter().filter(|row| row.job_kind().is_some());
        assert_eq!(starts.count(), 16);
    }
}
