//! The lease that a pick is answered with, written without serde.

use crate::{
    ledger::Calendar,
    pool::{LeaseView, Mark},
    wire_time::WireTime,
};

/// Enough for the lease of a pick whose e-mail and alias are not the longest.
const BYTES_USUAL: usize = 448;

/// What serde writes of a [`LeaseBody`](super::LeaseBody), in an eighth of the instructions: every pick is answered
/// with one, and serde took 7,500 of its 35,000.
pub(in crate::api) fn written(lease: &LeaseView, calendar: &Calendar) -> Vec<u8> {
    let at = |time| WireTime(calendar.at(time));
    let request_id = Some(&*lease.caller.request_id).filter(|id| !id.is_empty());
    let mut json = Writer(Vec::with_capacity(BYTES_USUAL));
    json.raw(r#"{"leaseId":"#);
    json.plain(&lease.id.digits());
    json.raw(r#","email":"#);
    json.text(&lease.email);
    json.raw(r#","alias":"#);
    json.plain(lease.alias.text().as_bytes());
    json.raw(r#","state":"#);
    json.plain(lease.state.as_str().as_bytes());
    json.raw(r#","kind":"#);
    json.plain(lease.kind.as_str().as_bytes());
    json.raw(r#","operation":"#);
    json.optional(lease.operation.as_deref(), Writer::text);
    json.raw(r#","client":"#);
    json.optional(lease.caller.client.as_deref(), Writer::text);
    json.raw(r#","requestId":"#);
    json.optional(request_id, Writer::text);
    json.raw(r#","maxJobs":"#);
    json.number(lease.max_jobs);
    json.raw(r#","inFlight":"#);
    json.number(lease.in_flight);
    json.raw(r#","taskId":"#);
    json.optional(lease.task_id.as_ref(), |json, id| json.text(id.as_str()));
    json.raw(r#","mark":"#);
    json.optional(lease.mark, Writer::mark);
    json.raw(r#","createdAt":"#);
    json.time(at(lease.created_at));
    json.raw(r#","expiresAt":"#);
    json.optional(lease.expires_at.map(at), Writer::time);
    json.raw("}");
    json.0
}

/// JSON as it is written.
struct Writer(Vec<u8>);

impl Writer {
    #[inline]
    fn raw(&mut self, json: &'static str) {
        self.0.extend_from_slice(json.as_bytes());
    }

    /// Adds a string that needs no escapes.
    #[inline]
    fn plain(&mut self, text: &[u8]) {
        self.raw("\"");
        self.0.extend_from_slice(text);
        self.raw("\"");
    }

    /// Adds any string.
    fn text(&mut self, text: &str) {
        if needs_escapes(text) {
            serde_json::to_writer(&mut self.0, text).expect("a string can be written");
        } else {
            self.plain(text.as_bytes());
        }
    }

    fn number(&mut self, number: u32) {
        serde_json::to_writer(&mut self.0, &number).expect("a number can be written");
    }

    fn mark(&mut self, mark: Mark) {
        self.plain(mark.to_string().as_bytes());
    }

    fn time(&mut self, time: WireTime) {
        match time.text() {
            Some(text) => self.plain(&text),
            None => serde_json::to_writer(&mut self.0, &time).expect("a time can be written"),
        }
    }

    fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => write(self, value),
            None => self.raw("null"),
        }
    }
}

/// Whether JSON escapes any byte of `text`. The compiler looks at eight bytes at once: that takes half the instructions
/// of one after the other.
fn needs_escapes(text: &str) -> bool {
    let is_special = |byte: &u8| (*byte < b' ') | (*byte == b'"') | (*byte == b'\\');
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    let mut words = words.iter();
    words.any(|word| word.iter().fold(false, |any, byte| any | is_special(byte)))
        || rest.iter().any(is_special)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use accounts_fetcher::Alias;
    use proptest::{option, prelude::*, sample};

    use super::*;
    use crate::{
        api::leases::LeaseBody,
        ledger::Clock,
        pool::{Caller, Kind, LeaseState},
    };

    /// Texts with and without escapes.
    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[ -~]{0,40}", "\\PC*", any::<String>()]
    }

    fn state() -> impl Strategy<Value = LeaseState> {
        let states = [
            LeaseState::Reserved,
            LeaseState::Bound,
            LeaseState::Uncertain,
        ];
        sample::select(states.to_vec())
    }

    proptest! {
        #[test]
        fn a_lease_is_written_as_serde_writes_it(
            (id, mark) in (any::<u128>(), option::of(any::<[u8; 16]>())),
            (email, request_id) in (text(), text()),
            (operation, client) in (option::of(text()), option::of(text())),
            (state, is_pick) in (state(), any::<bool>()),
            (max_jobs, in_flight) in (any::<u32>(), any::<u32>()),
            task_id in option::of("-?[1-9][0-9]{0,15}"),
            (created_at, expires_at) in (any::<Duration>(), option::of(any::<Duration>())),
        ) {
            let view = LeaseView {
                id: format!("{id:032x}").parse().unwrap(),
                kind: if is_pick { Kind::Pick } else { Kind::Forward },
                state,
                alias: Alias::of(&email),
                email: email.into(),
                caller: Caller {
                    client: client.map(Into::into),
                    request_id: request_id.into(),
                },
                operation: operation.map(Into::into),
                task_id: task_id.map(|digits| digits.parse().unwrap()),
                mark: mark.map(Mark::new),
                max_jobs,
                in_flight,
                created_at,
                expires_at,
            };
            let calendar = Clock::start().calendar();
            let plain = serde_json::to_string(&LeaseBody::of(&view, &calendar)).unwrap();
            assert_eq!(String::from_utf8(written(&view, &calendar)).unwrap(), plain);
        }
    }
}
