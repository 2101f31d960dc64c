//! What an answer to a submission means: one total table, and one verdict for each of its rows.
//!
//! Doubt counts as "there may be a job": a slot returns only where the upstream provably did not accept,
//! since a job that is not counted overruns its account, and a second one costs money.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use http::StatusCode;

use crate::{
    config,
    error::TokenFault,
    kling::task,
    pool::{Blame, Settlement, TaskId},
    upstream::SendError,
};

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// There is a job. Its slot is bound.
    Accepted {
        task_id: TaskId,
        task_type: Option<Arc<str>>,
    },
    /// The account is full or pushed back. No job.
    PushedBack,
    /// The account's session is broken, or the upstream does not know the account. No job.
    SessionBroken,
    /// The account has no credit for this. No job.
    NoCredit,
    /// The upstream does not know the account any more, or what else it may mean. No job.
    AccountMissing,
    /// The upstream does not take our token. No job, on any account.
    TokenRejected(TokenFault),
    /// The request is at fault: every account would refuse it. No job.
    RequestRefused,
    /// It is not known whether there is a job.
    Unknown {
        /// How long ago the last byte left, at least.
        sent_ago: Duration,
    },
    /// No byte was sent. No job.
    NotSent,
}

/// What follows from an outcome.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    /// What the ledger is told about the slot.
    pub(super) settlement: Settlement,
    /// Whether the account refused for a reason of its own.
    pub(super) is_of_account: bool,
    /// Whether the submission may be sent again.
    pub(super) next: Next,
    /// Who else has to act.
    pub(super) follow_up: FollowUp,
}

/// What may come after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: there may be a job, or no account would take it.
    Nothing,
    /// An attempt on another account, if the call takes any: this one refused for a reason of its own.
    Elsewhere,
    /// The same, or an attempt later, on any account: this one is full, and will not be for ever.
    ElsewhereOrLater,
    /// Another attempt: nothing was sent.
    Again,
}

/// Who has to act on an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FollowUp {
    /// No one.
    None,
    /// A round: the account runs jobs that we do not know, or ours may turn up.
    Round,
    /// The fetcher: the account's entry in the list may say more.
    Fetch,
    /// The fetcher: the account may have left the list. Only then may another account take the job.
    FetchFirst,
    /// The picker: it stops until the upstream takes the token. No fetch is woken: it may succeed although
    /// jobs are refused, and picks would go on too soon.
    RejectToken(TokenFault),
}

/// What a job start referred to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Referred<'a> {
    /// The account that it was sent to.
    pub(super) email: Option<&'a str>,
    /// Whether it names anything else by its id.
    pub(super) names_ids: bool,
}

impl Verdict {
    /// What follows from the answer to a job start. `body` may be cut short: a status can prove a refusal by
    /// itself.
    pub(super) fn of_answer(
        status: StatusCode,
        body: &[u8],
        referred: Referred<'_>,
        retry_after: Option<Duration>,
        settings: &config::Forward,
    ) -> Self {
        let (outcome, may_move) = judge(status, body, referred, settings);
        outcome.verdict(may_move, retry_after)
    }

    /// What follows if there is no answer.
    pub(super) fn of_error(error: &SendError) -> Self {
        let outcome = match error {
            SendError::NotSent(_) | SendError::NoPlace => Outcome::NotSent,
            SendError::Lost(_) | SendError::Unfinished(_) => UNKNOWN,
            SendError::TimedOut(timeout) => Outcome::Unknown { sent_ago: *timeout },
        };
        outcome.verdict(false, None)
    }
}

impl Outcome {
    /// What follows. `may_move`: another account may take what this one refused.
    fn verdict(self, may_move: bool, retry_after: Option<Duration>) -> Verdict {
        let elsewhere = if may_move {
            Next::Elsewhere
        } else {
            Next::Nothing
        };
        let refused = Settlement::Refused;
        let is_of_account = matches!(
            self,
            Self::PushedBack | Self::SessionBroken | Self::NoCredit | Self::AccountMissing
        );
        let (settlement, next, follow_up) = match self {
            Self::Accepted { task_id, task_type } => {
                let accepted = Settlement::Accepted { task_id, task_type };
                (accepted, Next::Nothing, FollowUp::None)
            }
            Self::PushedBack => {
                let blame = Blame::PushedBack { retry_after };
                let next = if may_move {
                    Next::ElsewhereOrLater
                } else {
                    Next::Nothing
                };
                (refused(blame), next, FollowUp::Round)
            }
            Self::SessionBroken => (refused(Blame::SessionBroken), elsewhere, FollowUp::Fetch),
            Self::NoCredit => (refused(Blame::NoCredit), elsewhere, FollowUp::None),
            // It is as healthy as any other, unless the list says otherwise.
            Self::AccountMissing => (refused(Blame::Request), elsewhere, FollowUp::FetchFirst),
            Self::TokenRejected(fault) => {
                let follow_up = FollowUp::RejectToken(fault);
                (refused(Blame::Token), Next::Nothing, follow_up)
            }
            Self::RequestRefused => (refused(Blame::Request), Next::Nothing, FollowUp::None),
            Self::Unknown { sent_ago } => {
                let uncertain = Settlement::Uncertain { sent_ago };
                (uncertain, Next::Nothing, FollowUp::Round)
            }
            Self::NotSent => (Settlement::NotSent, Next::Again, FollowUp::None),
        };
        Verdict {
            settlement,
            is_of_account,
            next,
            follow_up,
        }
    }
}

/// It is not known whether there is a job, and the last byte may have left just now.
const UNKNOWN: Outcome = Outcome::Unknown {
    sent_ago: Duration::ZERO,
};

/// One row: answers with these statuses that say this have this outcome.
struct Row {
    statuses: RangeInclusive<u16>,
    says: Says,
    outcome: Outcome,
    moves: Moves,
}

/// What an answer must say for a row to fit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    Anything,
    /// That the account is not configured.
    NoAccount,
    /// What can only mean the account: it names the account, or the call names nothing else.
    Account,
    /// One of the texts by which the input is refused.
    Refusal,
}

/// Whether another account may take the job.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moves {
    Never,
    /// If `forward.retry_statuses` has the status.
    IfSet,
    Always,
}

const fn row(statuses: RangeInclusive<u16>, says: Says, outcome: Outcome, moves: Moves) -> Row {
    Row {
        statuses,
        says,
        outcome,
        moves,
    }
}

/// The table of answers that name no job. The first row that fits counts; the last one always does.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    row(429..=429, Says::Anything, Outcome::PushedBack, Moves::IfSet),
    row(596..=596, Says::Anything, Outcome::SessionBroken, Moves::IfSet),
    // The account is gone, like after a 596.
    row(404..=404, Says::NoAccount, Outcome::SessionBroken, Moves::Always),
    row(412..=412, Says::Anything, Outcome::NoCredit, Moves::IfSet),
    row(404..=404, Says::Account, Outcome::AccountMissing, Moves::Always),
    row(401..=401, Says::Anything, Outcome::TokenRejected(TokenFault::Unknown), Moves::Never),
    row(402..=402, Says::Anything, Outcome::TokenRejected(TokenFault::Unpaid), Moves::Never),
    // The request may have been passed on before a gateway lost patience.
    row(408..=408, Says::Anything, UNKNOWN, Moves::Never),
    row(300..=499, Says::Anything, Outcome::RequestRefused, Moves::Never),
    row(500..=500, Says::Refusal, Outcome::RequestRefused, Moves::Never),
    row(0..=u16::MAX, Says::Anything, UNKNOWN, Moves::Never),
];

/// The outcome of an answer, and whether another account may take the job.
fn judge(
    status: StatusCode,
    body: &[u8],
    referred: Referred<'_>,
    settings: &config::Forward,
) -> (Outcome, bool) {
    if status == StatusCode::OK
        && let Some((task_id, task_type)) = task::accepted_task(body)
    {
        return (Outcome::Accepted { task_id, task_type }, false);
    }
    let fits = |row: &&Row| {
        row.statuses.contains(&status.as_u16())
            && match row.says {
                Says::Anything => true,
                Says::NoAccount => task::is_about_account(body),
                Says::Account => referred.is_about_account(body),
                Says::Refusal => says_one_of(body, &settings.refusal_patterns),
            }
    };
    let Some(row) = TABLE.iter().find(fits) else {
        return (UNKNOWN, false);
    };
    let may_move = match row.moves {
        Moves::Never => false,
        Moves::IfSet => settings.retry_statuses.contains(&status.as_u16()),
        Moves::Always => true,
    };
    (row.outcome.clone(), may_move)
}

impl Referred<'_> {
    /// Whether an answer that something is missing can only mean the account.
    fn is_about_account(self, body: &[u8]) -> bool {
        let names_account = |email: &str| says_one_of(body, &[email]);
        !self.names_ids || self.email.is_some_and(names_account)
    }
}

fn says_one_of<P: AsRef<str>>(body: &[u8], patterns: &[P]) -> bool {
    let body = String::from_utf8_lossy(body).to_lowercase();
    let mut patterns = patterns.iter();
    patterns.any(|pattern| body.contains(&pattern.as_ref().to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A job start that names an id.
    const WITH_IDS: Referred<'_> = Referred {
        email: Some("Ann@x"),
        names_ids: true,
    };

    fn judged(status: u16, body: &str) -> (Outcome, bool) {
        judged_as(WITH_IDS, status, body)
    }

    fn judged_as(referred: Referred<'_>, status: u16, body: &str) -> (Outcome, bool) {
        let settings = config::Forward {
            wait: Duration::ZERO,
            redeliver: Duration::ZERO,
            body_max: 0,
            buffer_total: 0,
            extra_jobs: Vec::new(),
            retry_statuses: vec![429, 500],
            refusal_patterns: vec!["CM_EXT".to_owned(), "community guidelines".to_owned()],
            client_email: config::ClientEmail::Respect,
            marks: true,
        };
        let status = StatusCode::from_u16(status).unwrap();
        judge(status, body.as_bytes(), referred, &settings)
    }

    fn outcome(status: u16, body: &str) -> Outcome {
        judged(status, body).0
    }

    fn is_refusal(outcome: Outcome) -> bool {
        let settlement = outcome.verdict(false, None).settlement;
        matches!(settlement, Settlement::Refused(_))
    }

    #[test]
    fn an_accepted_job_keeps_its_digits() {
        for (body, id) in [
            (r#"{"task":{"id":123456789,"status":5}}"#, "123456789"),
            (
                r#"{"task":{"id":900719925474099312345}}"#,
                "900719925474099312345",
            ),
            (
                r#"{"other":[1],"task":{"status":5,"id":-42},"x":null}"#,
                "-42",
            ),
            (r#"{"task":{"id":"77"}}"#, "77"),
        ] {
            let accepted = Outcome::Accepted {
                task_id: id.parse().unwrap(),
                task_type: None,
            };
            assert_eq!(outcome(200, body), accepted, "{body}");
        }
    }

    #[test]
    fn whatever_does_not_prove_a_refusal_is_unknown() {
        for body in [
            "",
            "{}",
            "<html>",
            r#"{"id":5}"#,
            r#"{"task":{}}"#,
            r#"{"task":{"id":1.5}}"#,
        ] {
            assert_eq!(outcome(200, body), UNKNOWN, "{body}");
        }
        for status in [
            201, 202, 204, 408, 500, 501, 502, 503, 504, 520, 522, 524, 529, 595, 599, 999,
        ] {
            let accepted = r#"{"task":{"id":1}}"#;
            assert_eq!(outcome(status, accepted), UNKNOWN, "{status}");
        }
        assert_eq!(outcome(500, r#"{"error":"Service busy"}"#), UNKNOWN);
    }

    #[test]
    fn refusals_are_told_apart() {
        for (status, body, wanted) in [
            (429, "", Outcome::PushedBack),
            (
                596,
                r#"{"error":"Account a@x in error state"}"#,
                Outcome::SessionBroken,
            ),
            (
                404,
                "Account configuration not found. To create…",
                Outcome::SessionBroken,
            ),
            (
                404,
                r#"{"error":"No works found for task 1"}"#,
                Outcome::RequestRefused,
            ),
            (412, "", Outcome::NoCredit),
            (
                404,
                r#"{"error":"Account ann@X not found"}"#,
                Outcome::AccountMissing,
            ),
            (401, "", Outcome::TokenRejected(TokenFault::Unknown)),
            (402, "", Outcome::TokenRejected(TokenFault::Unpaid)),
            (400, "", Outcome::RequestRefused),
            (403, "", Outcome::RequestRefused),
            (422, "", Outcome::RequestRefused),
            (302, "", Outcome::RequestRefused),
            (
                500,
                r#"{"error":"… violates the Community Guidelines …"}"#,
                Outcome::RequestRefused,
            ),
            (
                500,
                r#"{"message":"Service busy (CM_EXT.POther)"}"#,
                Outcome::RequestRefused,
            ),
        ] {
            let outcome = outcome(status, body);
            assert_eq!(outcome, wanted, "{status} {body}");
            assert!(is_refusal(outcome));
        }
    }

    #[test]
    fn every_status_has_an_outcome() {
        for status in 100..=999 {
            let outcome = outcome(status, "");
            let is_provable = matches!(status, 300..=407 | 409..=499 | 596);
            assert_eq!(is_refusal(outcome), is_provable, "{status}");
        }
    }

    #[test]
    fn a_404_means_the_account_where_nothing_else_can_be_missing() {
        let referred = |email, names_ids| Referred { email, names_ids };
        for (referred, body, is_about_account) in [
            (referred(Some("a@x"), false), "<html>", true),
            (referred(None, false), "", true),
            (referred(Some("a@x"), true), "no a@x here", true),
            (referred(Some("a@x"), true), "no avatar 7", false),
            (referred(Some("a@x"), true), "no account b@x", false),
            (referred(None, true), "no account a@x", false),
        ] {
            let (outcome, may_move) = judged_as(referred, 404, body);
            let is_missing = outcome == Outcome::AccountMissing;
            assert_eq!((is_missing, may_move), (is_about_account, is_about_account));
        }
    }

    #[test]
    fn only_a_refusal_by_the_account_moves_a_job() {
        let no_account = "Account configuration not found.";
        for (status, body, wanted) in [
            (429, "", true),
            (404, no_account, true),
            // Not in the settings.
            (412, "", false),
            (596, "", false),
            // In the settings, and proves nothing.
            (500, "", false),
            (500, "CM_EXT", false),
            (404, "", false),
            (400, "", false),
            (401, "", false),
        ] {
            assert_eq!(judged(status, body).1, wanted, "{status} {body}");
        }
    }
}
