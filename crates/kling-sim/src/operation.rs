//! The operations that start a job, as data.
//!
//! A new job start is a new row here; nothing else in the crate names one.

/// One operation that answers with a task and holds a slot until the task is final.
#[derive(Debug)]
pub(crate) struct Operation {
    /// Path below the base path, without a trailing slash.
    pub(crate) path: &'static str,
    /// What Kling calls this kind of task.
    pub(crate) task_type: &'static str,
    /// Body fields that must be present and not empty.
    pub(crate) required: &'static [&'static str],
}

/// Every job start the simulator knows.
static JOB_STARTS: [Operation; 1] = [Operation {
    path: "/videos/text2video",
    task_type: "m2v_txt2video",
    required: &["prompt"],
}];

/// Finds the job start at `path`.
pub(crate) fn job_start(path: &str) -> Option<&'static Operation> {
    JOB_STARTS.iter().find(|operation| operation.path == path)
}
