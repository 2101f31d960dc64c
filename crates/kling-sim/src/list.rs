//! How `GET /accounts` answers when a test scripts it, and how often it was requested.
//!
//! The script is a queue of one-shot answers, followed by the same answer for ever. A lasting fault
//! is that last answer; without a script it is the true list.

mod fault;

use std::collections::VecDeque;

pub use fault::ListFault;

/// One answer to `GET /accounts`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListAnswer {
    /// The true list.
    #[default]
    Normal,
    /// Something else.
    Fault(ListFault),
}

impl From<ListFault> for ListAnswer {
    fn from(fault: ListFault) -> Self {
        Self::Fault(fault)
    }
}

/// How often `GET /accounts` was requested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListRequests {
    /// Requests with a valid token.
    pub seen: u64,
    /// The most requests that were under way at once. A request is under way until its answer was
    /// sent whole or the simulator noticed that the client is gone.
    pub peak: u32,
}

/// The script and the counters.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    once: VecDeque<ListAnswer>,
    then: ListAnswer,
    in_flight: u32,
    requests: ListRequests,
}

impl Listing {
    /// Answers the next requests with `answers`, one each, and later requests with the true list.
    pub(crate) fn script(&mut self, answers: impl IntoIterator<Item = ListAnswer>) {
        self.once = answers.into_iter().collect();
        self.then = ListAnswer::Normal;
    }

    /// Answers with `fault` until the script changes.
    pub(crate) fn fault(&mut self, fault: ListFault) {
        self.once.clear();
        self.then = fault.into();
    }

    /// Counts a request and chooses its answer. [`Listing::end`] must follow.
    pub(crate) fn begin(&mut self) -> ListAnswer {
        self.in_flight += 1;
        self.requests.seen += 1;
        self.requests.peak = self.requests.peak.max(self.in_flight);
        self.once.pop_front().unwrap_or_else(|| self.then.clone())
    }

    /// Ends a request that [`Listing::begin`] counted.
    pub(crate) fn end(&mut self) {
        self.in_flight -= 1;
    }

    /// The counters.
    pub(crate) fn requests(&self) -> ListRequests {
        self.requests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shot_answers_come_in_order_and_then_the_true_list() {
        let mut listing = Listing::default();
        listing.script([
            ListFault::Html.into(),
            ListAnswer::Normal,
            ListFault::Reset.into(),
        ]);
        let answers: Vec<ListAnswer> = (0..5).map(|_| listing.begin()).collect();
        let expected = [
            ListFault::Html.into(),
            ListAnswer::Normal,
            ListFault::Reset.into(),
            ListAnswer::Normal,
            ListAnswer::Normal,
        ];
        assert_eq!(answers, expected);
    }

    #[test]
    fn a_fault_lasts_and_ends_the_script_before_it() {
        let mut listing = Listing::default();
        listing.script([ListFault::Html.into()]);
        listing.fault(ListFault::Reset);
        assert_eq!(listing.begin(), ListFault::Reset.into());
        assert_eq!(listing.begin(), ListFault::Reset.into());
        listing.script([]);
        assert_eq!(listing.begin(), ListAnswer::Normal);
    }

    #[test]
    fn counts_requests_and_how_many_were_under_way_at_once() {
        let mut listing = Listing::default();
        for _ in 0..2 {
            listing.begin();
            listing.begin();
            listing.end();
            listing.end();
        }
        assert_eq!(listing.requests(), ListRequests { seen: 4, peak: 2 });
    }
}
