//! Scripted faults of any operation, and random ones for soak tests.
//!
//! The faults of `GET /accounts` are a mechanism of their own ([`ListFault`](crate::ListFault)),
//! since they know the list. Here the first [`Fault`] that matches a request takes effect. If none
//! matches and the request starts a job, a [`ChaosPlan`] may draw one.

mod chaos;
mod effect;

use http::Method;

pub use chaos::ChaosPlan;
pub use effect::{Answer, Effect};

use crate::operation::Operation;
use chaos::Chaos;

/// An [`Effect`] and the requests it applies to: all of them, until it is narrowed.
///
/// ```
/// use kling_sim::{Effect, Fault};
///
/// // The next job of this kind on this account starts, but its answer is lost.
/// let fault = Fault::new(Effect::ResetAfter)
///     .on("POST", "/videos/text2video")
///     .account("a@example.com")
///     .times(1);
/// # drop(fault);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Fault {
    effect: Effect,
    scope: Scope,
    email: Option<String>,
    times: Option<u32>,
}

#[derive(Clone, Debug)]
enum Scope {
    All,
    JobStarts,
    One { method: String, path: String },
}

impl Fault {
    /// A fault that applies to every request, for ever.
    pub fn new(effect: Effect) -> Self {
        Self {
            effect,
            scope: Scope::All,
            email: None,
            times: None,
        }
    }

    /// An answer with this status; short for [`Effect::Answer`].
    ///
    /// # Panics
    /// If `status` is not a status of HTTP (100 to 999).
    pub fn status(status: u16) -> Self {
        Self::new(Effect::Answer(Answer::new(status)))
    }

    /// Narrows it to one operation. `path` is relative to the base path and has no trailing slash.
    /// It is either a concrete path (`/tasks/7`), which the simulator does not have to know, or the
    /// path of an operation, whose last segment may be `{task_id}`, `{email}`, `{avatar_id}` or
    /// `{element_id}`.
    pub fn on(self, method: &str, path: &str) -> Self {
        let scope = Scope::One {
            method: method.to_owned(),
            path: path.to_owned(),
        };
        Self { scope, ..self }
    }

    /// Narrows it to the operations that start a job.
    pub fn on_job_starts(self) -> Self {
        Self {
            scope: Scope::JobStarts,
            ..self
        }
    }

    /// Narrows it to requests that name this account, in query, path or body.
    pub fn account(self, email: impl Into<String>) -> Self {
        Self {
            email: Some(email.into()),
            ..self
        }
    }

    /// Ends it after this many requests.
    pub fn times(self, times: u32) -> Self {
        Self {
            times: Some(times),
            ..self
        }
    }

    fn matches(&self, target: &Target<'_>) -> bool {
        let is_in_scope = match &self.scope {
            Scope::All => true,
            Scope::JobStarts => target.is_job_start(),
            Scope::One { method, path } => {
                let is_row = target.operation.is_some_and(|row| row.path == path);
                target.method == method.as_str() && (is_row || target.path == path)
            }
        };
        is_in_scope && (self.email.is_none() || self.email == target.email)
    }
}

impl From<Effect> for Fault {
    fn from(effect: Effect) -> Self {
        Self::new(effect)
    }
}

/// What a fault knows of a request.
#[derive(Clone, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) method: &'a Method,
    /// Below the base path, without a trailing slash.
    pub(crate) path: &'a str,
    pub(crate) operation: Option<&'static Operation>,
    /// The account that the request names, if that is known yet.
    pub(crate) email: Option<String>,
}

impl Target<'_> {
    pub(crate) fn is_job_start(&self) -> bool {
        self.operation.is_some_and(|row| row.job_kind().is_some())
    }
}

/// The scripted faults and the random ones.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    faults: Vec<Fault>,
    chaos: Option<Chaos>,
}

impl Faults {
    /// Adds a fault after the existing ones.
    pub(crate) fn add(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// How many scripted faults there are.
    pub(crate) fn count(&self) -> usize {
        self.faults.len()
    }

    /// Draws a fault for every job start from now on.
    pub(crate) fn chaos(&mut self, plan: ChaosPlan) {
        self.chaos = Some(Chaos::new(plan));
    }

    /// Ends all faults, random ones too.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The effect on a request whose head has arrived.
    pub(crate) fn take(&mut self, target: &Target<'_>) -> Option<Effect> {
        let scripted = self.take_scripted(target);
        scripted.or_else(|| {
            self.chaos
                .as_mut()
                .filter(|_| target.is_job_start())?
                .draw()
        })
    }

    /// The effect of the first scripted fault that matches. This counts as one of its times.
    pub(crate) fn take_scripted(&mut self, target: &Target<'_>) -> Option<Effect> {
        let idx = self.faults.iter().position(|fault| fault.matches(target))?;
        let fault = &mut self.faults[idx];
        let effect = fault.effect.clone();
        if let Some(times) = &mut fault.times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                drop(self.faults.remove(idx));
            }
        }
        Some(effect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::find;

    /// Whether `fault` applies to a request.
    fn applies(fault: &Fault, method: &Method, path: &str, email: Option<&str>) -> bool {
        fault.matches(&Target {
            method,
            path,
            operation: find(method.as_str(), path).map(|(row, _)| row),
            email: email.map(str::to_owned),
        })
    }

    #[test]
    fn a_fault_is_narrowed_by_operation_and_account() {
        let (get, post) = (&Method::GET, &Method::POST);
        let fault = Fault::status(503);
        assert!(applies(&fault, get, "/anything", None));

        let tasks = fault.clone().on("GET", "/tasks/{task_id}");
        assert!(applies(&tasks, get, "/tasks/7", None));
        assert!(!applies(&tasks, &Method::DELETE, "/tasks/7", None));
        assert!(!applies(&tasks, get, "/tasks", None));
        assert!(applies(
            &fault.clone().on("GET", "/tasks/7"),
            get,
            "/tasks/7",
            None
        ));
        assert!(applies(
            &fault.clone().on("POST", "/new"),
            post,
            "/new",
            None
        ));

        let on_a = fault.on_job_starts().account("a@x");
        assert!(applies(&on_a, post, "/images/omni", Some("a@x")));
        assert!(!applies(&on_a, post, "/images/omni", Some("b@x")));
        assert!(!applies(&on_a, post, "/images/omni", None));
        assert!(!applies(&on_a, post, "/tts/create", Some("a@x")));
    }

    #[test]
    fn the_first_fault_wins_until_it_is_used_up() {
        let mut faults = Faults::default();
        faults.add(Fault::new(Effect::StallAfter).times(2));
        faults.add(Effect::ResetBefore.into());
        let target = Target {
            method: &Method::GET,
            path: "/tasks",
            operation: None,
            email: None,
        };
        let taken: Vec<_> = (0..4).map(|_| faults.take(&target).unwrap()).collect();
        let expected = [
            Effect::StallAfter,
            Effect::StallAfter,
            Effect::ResetBefore,
            Effect::ResetBefore,
        ];
        assert_eq!(taken, expected);
        faults.clear();
        assert_eq!(faults.take(&target), None);
    }
}
