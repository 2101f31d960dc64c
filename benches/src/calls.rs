//! What the client asks for: in which order, with which bytes, and what it takes from the answers.

use std::{collections::VecDeque, io};

use crate::{
    client::{Answer, request},
    wire::{number_field, text_field},
};

/// Length of the body of a job start, in bytes.
const JOB_BYTES: usize = 400;
/// Where jobs are started.
const JOB_LINE: &str = "POST /v1/kling/videos/text2video";
const PICK_LINE: &str = "POST /pick";

/// Which calls a window has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// A pick and a release in turn.
    PicksAndReleases,
    /// Picks only. Their leases are released after the window.
    Picks,
    /// A job start and the end of its tracking in turn, which gives its slot back.
    StartsAndUntracks,
    /// Job starts only. Their jobs are untracked after the window.
    Starts,
    /// Reads of one task.
    Reads,
    /// Calls that are in no table.
    Passes,
}

/// A call under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The call that gives the work its name: its latency counts.
    Main,
    /// A release, or an end of tracking.
    Back,
}

/// The calls of a server's window, one after the other, on whatever connection is free.
#[derive(Debug)]
pub(crate) struct Calls {
    work: Work,
    /// The task that is read.
    task: String,
    /// Leases or tasks that were not given back.
    held: VecDeque<Box<[u8]>>,
    /// How many calls of the kind that gives the work its name were sent more than of the other.
    ahead: i64,
    jobs_count: u64,
}

impl Work {
    /// Whether it leaves something behind.
    fn gives_back(self) -> bool {
        matches!(self, Self::PicksAndReleases | Self::StartsAndUntracks)
    }

    pub(crate) fn is_jobs(self) -> bool {
        matches!(self, Self::StartsAndUntracks | Self::Starts)
    }

    fn is_picks(self) -> bool {
        matches!(self, Self::PicksAndReleases | Self::Picks)
    }
}

impl Calls {
    /// `task` is the one that is read.
    pub(crate) fn new(work: Work, task: &str) -> Self {
        Self {
            work,
            task: task.to_owned(),
            held: VecDeque::new(),
            ahead: 0,
            jobs_count: 0,
        }
    }

    /// Writes the next call into `out`.
    pub(crate) fn next(&mut self, out: &mut Vec<u8>) -> Kind {
        out.clear();
        if self.work.gives_back() && self.ahead > 0 && self.write_back(out) {
            self.ahead -= 1;
            return Kind::Back;
        }
        self.ahead += 1;
        match self.work {
            Work::PicksAndReleases | Work::Picks => out.extend(request(PICK_LINE)),
            Work::StartsAndUntracks | Work::Starts => {
                self.jobs_count += 1;
                out.extend(job_start(self.jobs_count));
            }
            Work::Reads => {
                out.extend(request(&format!("GET /v1/kling/tasks/{}", self.task)));
            }
            Work::Passes => out.extend(request("GET /v1/kling/anything")),
        }
        Kind::Main
    }

    /// Writes the next call that gives back into `out`. False: there is nothing left.
    pub(crate) fn write_back(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(id) = self.held.pop_front() else {
            return false;
        };
        out.clear();
        out.extend_from_slice(if self.work.is_jobs() {
            b"DELETE /v1/kling/scheduler/"
        } else {
            b"DELETE /leases/"
        });
        out.extend_from_slice(&id);
        out.extend_from_slice(b" HTTP/1.1\r\nHost: localhost\r\n\r\n");
        true
    }

    /// Takes from an answer what is given back later.
    ///
    /// # Errors
    ///
    /// A refusal, or an answer without an id.
    pub(crate) fn answered(&mut self, kind: Kind, answer: &Answer<'_>) -> io::Result<()> {
        answer.check()?;
        if kind == Kind::Back {
            return Ok(());
        }
        let id = if self.work.is_jobs() {
            number_field(answer.body, "id")
        } else if self.work.is_picks() {
            text_field(answer.body, "leaseId")
        } else {
            return Ok(());
        };
        self.held
            .push_back(id.ok_or_else(|| answer.unexpected())?.into());
        Ok(())
    }
}

/// A job start with a prompt of its own.
pub(crate) fn job_start(number: u64) -> Vec<u8> {
    const START: &str = r#"{"duration":5,"aspect_ratio":"16:9","model":"v2","prompt":""#;
    const END: &str = r#""}"#;
    let width = JOB_BYTES - START.len() - END.len();
    let head = "Host: localhost\r\nContent-Type: application/json\r\n";
    format!(
        "{JOB_LINE} HTTP/1.1\r\n{head}Content-Length: {JOB_BYTES}\r\n\r\n{START}{number:a>width$}{END}"
    )
    .into_bytes()
}

/// A pick.
pub(crate) fn pick() -> Vec<u8> {
    request(PICK_LINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &[u8]) -> Answer<'_> {
        Answer {
            status: 200,
            raw: body,
            body,
        }
    }

    #[test]
    fn what_was_picked_is_released_in_turn() {
        let mut calls = Calls::new(Work::PicksAndReleases, "");
        let mut out = Vec::new();
        // Two connections: the second call is sent before the first is answered.
        assert_eq!(calls.next(&mut out), Kind::Main);
        assert_eq!(calls.next(&mut out), Kind::Main);
        for id in ["a", "b"] {
            let body = format!(r#"{{"leaseId":"{id}"}}"#);
            calls
                .answered(Kind::Main, &answer(body.as_bytes()))
                .unwrap();
        }
        assert_eq!(calls.next(&mut out), Kind::Back);
        assert!(out.starts_with(b"DELETE /leases/a "));
        assert_eq!(calls.next(&mut out), Kind::Back);
        assert!(out.starts_with(b"DELETE /leases/b "));
        assert_eq!(calls.next(&mut out), Kind::Main);
    }

    #[test]
    fn a_job_start_has_its_length_and_its_own_prompt() {
        let first = String::from_utf8(job_start(1)).unwrap();
        let (_, body) = first.split_once("\r\n\r\n").unwrap();
        assert_eq!(body.len(), JOB_BYTES);
        assert!(body.ends_with("a1\"}"));
        assert_ne!(job_start(1), job_start(2));
    }

    #[test]
    fn an_answer_without_an_id_is_an_error() {
        let mut calls = Calls::new(Work::Starts, "");
        assert!(calls.answered(Kind::Main, &answer(b"{}")).is_err());
        assert!(
            calls
                .answered(Kind::Main, &answer(br#"{"task":{"id":7}}"#))
                .is_ok()
        );
    }
}
