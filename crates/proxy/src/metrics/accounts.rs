//! The series of the accounts: most of a scrape. They are written as text at once, since a registry of them would be
//! built and thrown away at each scrape, which takes many times as long.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt::{self, Write},
    sync::Arc,
};

use accounts_fetcher::Alias;
use tokio::task::yield_now;

use super::OTHER;
use crate::{
    config::AccountLabel,
    pool::{AccountState, AccountView, JobEnd, SERIES_MAX, SubmissionOutcome, Tallies, Tally},
};

/// How many labels are written before others go on: a hundred series.
const LABELS_PER_SLICE: usize = 8;

/// What the metrics show of the accounts.
#[derive(Debug)]
pub struct AccountSums {
    label: AccountLabel,
    count: usize,
    overcommitted: i64,
    by_label: BTreeMap<Arc<str>, Sums>,
    /// What only grows. The pool says which accounts are told apart here, so that no series falls when accounts come,
    /// go or change places.
    tallies: BTreeMap<Arc<str>, Tally>,
}

/// The sums of all accounts that share a label.
#[derive(Debug, Default)]
struct Sums {
    slots: i64,
    held: i64,
    uncertain: i64,
    foreign: i64,
    drift: i64,
    states: [i64; AccountState::ALL.len()],
}

impl AccountSums {
    /// No accounts yet.
    pub fn new(label: AccountLabel) -> Self {
        Self {
            label,
            count: 0,
            overcommitted: 0,
            by_label: BTreeMap::new(),
            tallies: BTreeMap::new(),
        }
    }

    /// Adds the next account of the list.
    pub fn add(&mut self, account: &AccountView) {
        let own = self.own_label(&account.email, account.alias);
        if account.has_series {
            self.tell_apart(own.clone(), account.tally);
        }
        let label = match own {
            // An empty label is the same as none to Prometheus.
            None => "".into(),
            Some(_) if self.count >= SERIES_MAX => OTHER.into(),
            Some(own) => own,
        };
        self.count += 1;
        self.overcommitted += i64::from(account.overcommitted());
        let sums = self.by_label.entry(label).or_default();
        if account.state != AccountState::Removed {
            sums.slots += i64::from(account.max_jobs);
        }
        sums.held += i64::from(account.held);
        sums.uncertain += i64::from(account.uncertain);
        sums.foreign += i64::from(account.foreign);
        sums.drift += account.drift;
        sums.states[account.state as usize] += 1;
    }

    /// Adds what is counted beside the accounts, once they are all added.
    pub fn add_tallies(&mut self, tallies: &Tallies) {
        for departed in &tallies.departed {
            let own = self.own_label(&departed.email, departed.alias);
            self.tell_apart(own, departed.tally);
        }
        match self.label {
            AccountLabel::None => {
                self.tallies.insert("".into(), tallies.all);
            }
            AccountLabel::Alias | AccountLabel::Email if tallies.others != Tally::default() => {
                self.tallies.insert(OTHER.into(), tallies.others);
            }
            AccountLabel::Alias | AccountLabel::Email => {}
        }
    }

    fn tell_apart(&mut self, own: Option<Arc<str>>, tally: Tally) {
        if let Some(own) = own {
            self.tallies.insert(own, tally);
        }
    }

    /// What names an account alone, if accounts are named.
    fn own_label(&self, email: &Arc<str>, alias: Alias) -> Option<Arc<str>> {
        match self.label {
            AccountLabel::None => None,
            AccountLabel::Alias => Some(Arc::from(&*alias.text())),
            AccountLabel::Email => Some(Arc::clone(email)),
        }
    }

    /// Slots in use above the caps.
    pub(super) fn overcommitted(&self) -> i64 {
        self.overcommitted
    }

    /// The text of each family, by its name.
    pub(super) async fn texts(&self) -> Vec<(String, Vec<u8>)> {
        let mut families = Families::new();
        for (written_count, (label, sums)) in (1..).zip(&self.by_label) {
            families.add(label, sums);
            if written_count % LABELS_PER_SLICE == 0 {
                yield_now().await;
            }
        }
        for (written_count, (label, tally)) in (1..).zip(&self.tallies) {
            families.add_tally(label, tally);
            if written_count % LABELS_PER_SLICE == 0 {
                yield_now().await;
            }
        }
        families.texts()
    }
}

/// The text of each family, so far.
struct Families {
    states: Family,
    drift: Family,
    jobs: Family,
    slots: Family,
    in_use: Family,
    submissions: Family,
}

impl Families {
    fn new() -> Self {
        Self {
            states: Family::new(
                "account_state",
                "gauge",
                "1 for the state an account is in, else 0; a count where accounts share a label.",
            ),
            drift: Family::new(
                "drift_slots",
                "gauge",
                "Slots in use minus jobs that the newest round listed, before the round corrected the count.",
            ),
            jobs: Family::new(
                "jobs_total",
                "counter",
                "Jobs whose slots came free, by how they ended, as far as that was known then.",
            ),
            slots: Family::new("slots", "gauge", "Slots of an account: its maxJobs."),
            in_use: Family::new("slots_in_use", "gauge", "Slots in use, by what uses them."),
            submissions: Family::new(
                "submissions_total",
                "counter",
                "Job starts that were carried on a slot, by what became of each attempt.",
            ),
        }
    }

    fn add(&mut self, label: &str, sums: &Sums) {
        let label = escaped(label);
        let mut series = self.states.of(&label, ",state=\"");
        for (state, count) in AccountState::ALL.into_iter().zip(sums.states) {
            series.write(state.as_str(), "\"} ", count);
        }
        self.drift.of(&label, "} ").write("", "", sums.drift);
        self.slots.of(&label, "} ").write("", "", sums.slots);
        let mut series = self.in_use.of(&label, ",kind=\"");
        for (kind, count) in [
            ("foreign", sums.foreign),
            ("held", sums.held),
            ("uncertain", sums.uncertain),
        ] {
            series.write(kind, "\"} ", count);
        }
    }

    fn add_tally(&mut self, label: &str, tally: &Tally) {
        let label = escaped(label);
        let mut series = self.submissions.of(&label, ",outcome=\"");
        for (outcome, count) in SubmissionOutcome::ALL.into_iter().zip(tally.submissions) {
            series.write(outcome.as_str(), "\"} ", count);
        }
        let mut series = self.jobs.of(&label, ",result=\"");
        for (end, count) in JobEnd::ALL.into_iter().zip(tally.ended) {
            series.write(end.as_str(), "\"} ", count);
        }
    }

    /// Each by its name. One without series is left out, as the registry does.
    fn texts(self) -> Vec<(String, Vec<u8>)> {
        let families = [
            self.states,
            self.drift,
            self.jobs,
            self.slots,
            self.in_use,
            self.submissions,
        ];
        let shown = families.into_iter().filter(|it| it.text.len() > it.head);
        let texts = shown.map(|it| (it.name, it.text.into_bytes()));
        texts.collect()
    }
}

/// A family: its head, and its series so far.
struct Family {
    name: String,
    text: String,
    /// How long the head is.
    head: usize,
}

impl Family {
    fn new(name: &str, kind: &str, help: &str) -> Self {
        let name = format!("kling_balancer_{name}");
        let text = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        let head = text.len();
        Self { name, text, head }
    }

    /// The series with one account label.
    fn of(&mut self, label: &str, behind: &str) -> Series<'_> {
        let account = "{account=\"";
        Series {
            begin: [&self.name, account, label, "\"", behind].concat(),
            text: &mut self.text,
        }
    }
}

/// Series with one account label.
struct Series<'a> {
    /// What all of them begin with.
    begin: String,
    text: &'a mut String,
}

impl Series<'_> {
    /// Writes a line. In pieces: to format it as a whole takes three times as long.
    fn write(&mut self, word: &str, behind: &str, count: impl fmt::Display) {
        self.text.push_str(&self.begin);
        self.text.push_str(word);
        self.text.push_str(behind);
        write!(self.text, "{count}").expect("a string takes any text");
        self.text.push('\n');
    }
}

/// A label value as the text format writes it.
fn escaped(label: &str) -> Cow<'_, str> {
    if !label.contains(['\\', '"', '\n']) {
        return label.into();
    }
    let label = label.replace('\\', "\\\\").replace('"', "\\\"");
    label.replace('\n', "\\n").into()
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    #[test]
    fn a_scrape_of_many_accounts_steps_back_on_the_way() {
        let mut accounts = AccountSums::new(AccountLabel::Email);
        for n in 0..SERIES_MAX + 7 {
            accounts.add(&view(&format!("{n}@x")));
        }
        let mut texts = pin!(accounts.texts());
        let mut cx = Context::from_waker(Waker::noop());
        let mut steps_back = 0;
        let texts = loop {
            match texts.as_mut().poll(&mut cx) {
                Poll::Pending => steps_back += 1,
                Poll::Ready(texts) => break texts,
            }
        };
        // One label for each account, and one for the rest, in either half.
        assert_eq!(steps_back, 2 * ((SERIES_MAX + 1) / LABELS_PER_SLICE));
        let (_, slots) = &texts[3];
        let slots = String::from_utf8(slots.clone()).unwrap();
        let series = slots.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(series.count(), SERIES_MAX + 1);
        assert!(
            slots.contains("\nkling_balancer_slots{account=\"7@x\"} 3\n"),
            "{slots}"
        );
        assert!(
            slots.contains("\nkling_balancer_slots{account=\"other\"} 21\n"),
            "{slots}"
        );
    }

    fn view(email: &str) -> AccountView {
        AccountView {
            email: email.into(),
            alias: Alias::default(),
            max_jobs: 3,
            held: 1,
            uncertain: 0,
            foreign: 0,
            drift: 0,
            is_eligible: true,
            state: AccountState::Available,
            error: None,
            until: None,
            session_expires_at: None,
            since: std::time::Duration::ZERO,
            last_refusal: None,
            tally: Tally::default(),
            has_series: true,
            next_free_in: None,
        }
    }

    #[test]
    fn a_series_is_written_as_the_text_format_wants_it() {
        let mut slots = Family::new("slots", "gauge", "Slots.");
        slots.of(&escaped("a\"b"), "} ").write("", "", -12);
        let mut jobs = Family::new("jobs_total", "counter", "Jobs.");
        let mut series = jobs.of("a@x", ",result=\"");
        series.write("failed", "\"} ", u64::MAX);
        let lines = [
            "# HELP kling_balancer_slots Slots.",
            "# TYPE kling_balancer_slots gauge",
            r#"kling_balancer_slots{account="a\"b"} -12"#,
            "# HELP kling_balancer_jobs_total Jobs.",
            "# TYPE kling_balancer_jobs_total counter",
            r#"kling_balancer_jobs_total{account="a@x",result="failed"} 18446744073709551615"#,
        ];
        let text = slots.text + &jobs.text;
        assert!(text.lines().eq(lines), "{text}");
    }

    #[test]
    fn labels_are_escaped_as_prometheus_reads_them() {
        assert_eq!(escaped("a\"b\\c\nd@x"), r#"a\"b\\c\nd@x"#);
    }
}
