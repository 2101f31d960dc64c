//! The audit while it is being written.

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;

use super::{
    AccountAudit, Audit, REPLY_REFS_MAX, REQUEST_BODY_BYTES_MAX, REQUESTS_MAX, RequestSeen,
    SUBMISSION_BYTES_MAX, SUBMISSIONS_MAX, Submission,
};
use crate::origin::Origin;

/// The counters and the lists.
#[derive(Debug, Default)]
pub(crate) struct Book {
    accounts: Vec<AccountAudit>,
    duplicates: u64,
    reply_refs: HashSet<String>,
    submission_count: u64,
    submissions: VecDeque<Submission>,
    submission_bytes: usize,
    requests: VecDeque<RequestSeen>,
}

impl Book {
    /// Opens the counters of an account, unless they are open.
    pub(crate) fn open(&mut self, email: &str) {
        if self.account(email).is_none() {
            self.accounts.push(AccountAudit {
                email: email.to_owned(),
                max_jobs: 0,
                peak: 0,
                executing: 0,
                accepted: 0,
                over_limit_ours: 0,
                over_limit_foreign: 0,
            });
        }
    }

    /// Counts a started job; with it its account runs `executing` jobs.
    pub(crate) fn accepted(&mut self, email: &str, executing: u32, reply_ref: Option<&str>) {
        if let Some(account) = self.account(email) {
            account.accepted += 1;
            account.peak = account.peak.max(executing);
        }
        if let Some(reply_ref) = reply_ref {
            if self.reply_refs.contains(reply_ref) {
                self.duplicates += 1;
            } else if self.reply_refs.len() < REPLY_REFS_MAX {
                self.reply_refs.insert(reply_ref.to_owned());
            }
        }
    }

    /// Counts a submission that found its account at the cap; `blame` says whose fault that was.
    pub(crate) fn over_limit(&mut self, email: &str, blame: Origin) {
        if let Some(account) = self.account(email) {
            match blame {
                Origin::Ours => account.over_limit_ours += 1,
                Origin::Foreign => account.over_limit_foreign += 1,
            }
        }
    }

    /// Keeps a submission, and forgets the oldest ones past the limits.
    pub(crate) fn record(&mut self, submission: Submission) {
        self.submission_count += 1;
        self.submission_bytes += submission.body.len();
        self.submissions.push_back(submission);
        while self.submissions.len() > SUBMISSIONS_MAX
            || self.submission_bytes > SUBMISSION_BYTES_MAX
        {
            let Some(oldest) = self.submissions.pop_front() else {
                break;
            };
            self.submission_bytes -= oldest.body.len();
        }
    }

    /// Keeps a request that is not a submission, and forgets the oldest one past the limit.
    pub(crate) fn log(&mut self, mut request: RequestSeen) {
        if request.body.len() > REQUEST_BODY_BYTES_MAX {
            // Copied: a slice would keep the whole body alive.
            request.body = Bytes::copy_from_slice(&request.body[..REQUEST_BODY_BYTES_MAX]);
        }
        if self.requests.len() == REQUESTS_MAX {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
    }

    /// The newest requests that were not submissions, oldest first.
    pub(crate) fn requests(&self) -> Vec<RequestSeen> {
        self.requests.iter().cloned().collect()
    }

    /// A copy. The caller fills in `max_jobs` and `executing`, which the book does not know.
    pub(crate) fn copy(&self) -> Audit {
        Audit {
            accounts: self.accounts.clone(),
            duplicates: self.duplicates,
            submission_count: self.submission_count,
            submissions: self.submissions.iter().cloned().collect(),
        }
    }

    fn account(&mut self, email: &str) -> Option<&mut AccountAudit> {
        self.accounts
            .iter_mut()
            .find(|account| account.email == email)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, Method};

    use super::*;
    use crate::{head::Head, outcome::Outcome, task_id::TaskId};

    fn head() -> Head {
        Head {
            method: Method::POST,
            path: "/p".to_owned(),
            query: None,
            headers: HeaderMap::from_iter([(http::header::ACCEPT, "x".parse().unwrap())]),
        }
    }

    fn refused(body: Bytes) -> Submission {
        Submission {
            at: Duration::ZERO,
            head: head(),
            email: None,
            origin: Origin::Ours,
            reply_ref: None,
            body,
            outcome: Outcome::Refused(429),
        }
    }

    #[test]
    fn forgets_the_oldest_submissions_and_counts_them_all() {
        let mut book = Book::default();
        for n in 0..=SUBMISSIONS_MAX {
            book.record(refused(Bytes::from(n.to_string())));
        }
        let audit = book.copy();
        assert_eq!(audit.submissions.len(), SUBMISSIONS_MAX);
        assert_eq!(audit.submissions[0].body, "1");
        assert_eq!(audit.submission_count, SUBMISSIONS_MAX as u64 + 1);
    }

    #[test]
    fn keeps_no_more_body_bytes_than_its_limit() {
        let mut book = Book::default();
        let half = Bytes::from(vec![b' '; SUBMISSION_BYTES_MAX / 2]);
        for body in [half.clone(), half, Bytes::from_static(b"x")] {
            book.record(refused(body));
        }
        assert_eq!(book.copy().submissions.len(), 2);
    }

    #[test]
    fn keeps_the_newest_requests() {
        let mut book = Book::default();
        for byte_count in 0..=REQUESTS_MAX as u64 {
            book.log(RequestSeen {
                at: Duration::ZERO,
                head: head(),
                body: Bytes::new(),
                byte_count,
                is_complete: true,
            });
        }
        let requests = book.requests();
        assert_eq!((requests.len(), requests[0].byte_count), (REQUESTS_MAX, 1));
    }

    #[test]
    fn a_reply_ref_seen_again_is_a_duplicate_and_its_absence_never_is() {
        let mut book = Book::default();
        for reply_ref in [Some("r1"), None, Some("r2"), None, Some("r1"), Some("r1")] {
            book.accepted("a@x", 1, reply_ref);
        }
        assert_eq!(book.copy().duplicates, 2);
    }

    #[test]
    fn prints_a_table() {
        let mut book = Book::default();
        book.open("long-name@example.com");
        book.accepted("long-name@example.com", 3, None);
        book.over_limit("long-name@example.com", Origin::Ours);
        book.over_limit("long-name@example.com", Origin::Foreign);
        book.over_limit("long-name@example.com", Origin::Foreign);
        let expected = "\
account                maxJobs   peak  executing  accepted  over limit: ours  foreign
long-name@example.com        0      3          0         1                 1        2
submissions: 0, duplicates: 0";
        assert_eq!(book.copy().to_string(), expected);
    }

    #[test]
    fn serializes_a_submission_with_its_outcome() {
        let accepted = Submission {
            at: Duration::from_millis(1500),
            head: head(),
            email: Some("a@x".into()),
            origin: Origin::Foreign,
            reply_ref: Some("r1".into()),
            body: Bytes::from_static(b"{}"),
            outcome: Outcome::Accepted(TaskId::from(7_i64)),
        };
        let expected = serde_json::json!({
            "atMs": 1500, "method": "POST", "path": "/p", "query": null,
            "headers": [["accept", "x"]], "email": "a@x", "origin": "foreign",
            "replyRef": "r1", "body": "{}", "taskId": 7,
        });
        assert_eq!(serde_json::to_value(accepted).unwrap(), expected);
    }
}
