//! The one place where jobs are accepted, and the verdict on job starts over the limit.

use rand::RngExt;

use super::{
    World,
    job::{Job, Started},
    task_info,
};
use crate::{
    audit::Submission,
    body::Fields,
    call::Call,
    operation::{JobKind, TEXT_TO_VIDEO},
    origin::Origin,
    outcome::Outcome,
    prompt::{DOOMED, FORBIDDEN},
    refusal::Refusal,
    reply_refs::ReplyRefs,
    task_id::TaskId,
};

/// The fields that the upstream reads itself. All other fields go to Kling and come back in the
/// answer and in the history.
const OWN_FIELDS: [&str; 4] = ["email", "maxJobs", "replyUrl", "replyRef"];

/// A job start: who sent it, how many rounds had been answered by then, and what its operation does
/// with a `replyRef`.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    origin: Origin,
    round: u64,
    reply_refs: ReplyRefs,
}

impl World {
    /// Judges a job start on an account and writes the verdict into the audit. `path` is that of the
    /// operation.
    pub(crate) fn submit(
        &mut self,
        kind: &'static JobKind,
        path: &'static str,
        call: &Call,
        account: Result<String, Refusal>,
    ) -> Result<Started, Refusal> {
        let arrival = Arrival {
            origin: call.head.origin(),
            round: call.round,
            reply_refs: self.reply_refs.on(path),
        };
        let fields = call.fields.as_ref().map_err(Clone::clone);
        let verdict = fields.and_then(|fields| self.accept(kind, fields, &account?, arrival));
        let outcome = match &verdict {
            Ok(started) => Outcome::Accepted(started.job.id),
            Err(refusal) => Outcome::Refused(refusal.status().as_u16()),
        };
        let accepted = verdict.as_ref().ok().map(|started| &started.job.email);
        self.record(call, accepted.cloned(), outcome);
        verdict
    }

    /// Writes into the audit a job start that a script kept from being judged.
    pub(crate) fn record_unjudged(&mut self, call: &Call, outcome: Outcome) {
        self.record(call, None, outcome);
    }

    /// Starts a job as a second tool does, without a request.
    pub(crate) fn submit_directly(&mut self, email: &str) -> Result<TaskId, Refusal> {
        let arrival = Arrival {
            origin: Origin::Foreign,
            round: 0,
            reply_refs: ReplyRefs::Kept,
        };
        let started = self.accept(&TEXT_TO_VIDEO, &Fields::default(), email, arrival)?;
        Ok(started.job.id)
    }

    fn record(&mut self, call: &Call, account: Option<String>, outcome: Outcome) {
        self.book.record(Submission {
            at: self.now,
            head: call.head.clone(),
            email: account.or_else(|| call.email_in_body()),
            origin: call.head.origin(),
            reply_ref: call.reply_ref(),
            body: call.body.clone(),
            outcome,
        });
    }

    fn accept(
        &mut self,
        kind: &'static JobKind,
        fields: &Fields,
        email: &str,
        arrival: Arrival,
    ) -> Result<Started, Refusal> {
        let account = self.resolve(Some(email))?;
        if let Some(error) = account.error.clone() {
            let email = account.email.clone();
            return Err(Refusal::AccountInError { email, error });
        }
        let (user_id, has_credit, max_jobs) =
            (account.user_id, account.has_credit, account.max_jobs);
        let own_cap = fields.max_jobs()?;
        let (reply_url, reply_ref) = (fields.text("replyUrl")?, fields.text("replyRef")?);
        let treated = arrival
            .reply_refs
            .treat(reply_ref.as_deref(), reply_url.as_deref())?;
        let cap = own_cap.unwrap_or(max_jobs).min(max_jobs);
        let executing = self.jobs.executing(email);
        if executing >= cap {
            let blame = self.blame(email, max_jobs, own_cap, arrival);
            self.book.over_limit(email, blame);
            let email = email.to_owned();
            return Err(Refusal::AtCapacity {
                email,
                executing,
                cap,
            });
        }
        // From here on the answer is Kling's, not useapi.net's.
        if !has_credit {
            return Err(Refusal::NoCredit);
        }
        if fields.contains("prompt", FORBIDDEN) {
            return Err(Refusal::Moderated);
        }
        self.find_references(email, fields)?;
        self.book
            .accepted(email, executing + 1, reply_ref.as_deref());
        self.last_task_id = self.last_task_id.draw_next(&mut self.rng);
        let arguments = fields.without(&OWN_FIELDS);
        let job = Job {
            id: self.last_task_id,
            email: email.to_owned(),
            user_id,
            kind,
            origin: arrival.origin,
            started: self.now,
            duration: self.settings.job_duration.draw(&mut self.rng),
            release_lag: self.rng.random_range(self.settings.release_lag.clone()),
            tracked_until: self.now.saturating_add(self.settings.tracking),
            is_doomed: fields.contains("prompt", DOOMED),
            is_deleted: false,
            output_count: fields.output_count(),
            reply_url,
            reply_ref: treated.shown,
            arguments: task_info::keep(&arguments),
        };
        self.jobs.insert(job.clone());
        Ok(Started {
            job,
            arguments,
            is_told: treated.is_told,
        })
    }

    /// Whose fault a job start at the limit is.
    ///
    /// It is ours if what we could know forbade it: the jobs that we started and the foreign jobs
    /// that we knew of, as far as they still count, fill the cap that we knew of. `told` holds what
    /// we could know. If we were never told a cap, the true cap counts: not asking is no excuse. A
    /// cap in the call itself is known to its sender.
    fn blame(&self, email: &str, max_jobs: u32, own_cap: Option<u32>, arrival: Arrival) -> Origin {
        if arrival.origin == Origin::Foreign {
            return Origin::Foreign;
        }
        // At least 1 if there was a round: 0 stands for a program that never asks.
        let decided = arrival.round.saturating_sub(self.settings.reaction_rounds);
        let round = decided.max(arrival.round.min(1));
        let told_cap = self.told.known_cap(email, round);
        let known_cap = told_cap.unwrap_or(max_jobs);
        let known_cap = own_cap.map_or(known_cap, |own_cap| known_cap.min(own_cap));
        let known_jobs = self.jobs.tracked().filter(|job| {
            let is_known = job.origin == Origin::Ours || self.told.knew_job(job.id, round);
            job.email == email && is_known
        });
        if known_jobs.count() >= known_cap as usize {
            Origin::Ours
        } else {
            Origin::Foreign
        }
    }
}
