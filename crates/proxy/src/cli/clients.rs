//! The commands that ask a running sidecar.

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{CliAsk, flags};
use crate::client::Wanted;

const DRY_RUN: &str = "dry-run";
const ONCE: &str = "once";
const NEW: &str = "new";
const ACCOUNT: &str = "account";
const LEASE: &str = "lease";

/// A flag with a value: its name, the field of a query that it fills, the name of its value, and its help.
type Field = (&'static str, &'static str, &'static str, &'static str);

/// Flags of `pick`.
const PICK_FLAGS: [Field; 4] = [
    (
        "email",
        "email",
        "ACCOUNT",
        "Takes a slot of this account only",
    ),
    (
        "exclude",
        "exclude",
        "ACCOUNT",
        "Takes a slot of any account but this one; can be repeated",
    ),
    (
        "wait",
        "wait",
        "DURATION",
        "Waits so long for a slot, such as 30s [default: the sidecar's selection.wait]",
    ),
    (
        "ttl",
        "ttl",
        "DURATION",
        "Holds the slot so long, such as 5m [default: the sidecar's leases.ttl]",
    ),
];

/// Flags of `jobs`.
const JOBS_FLAGS: [Field; 5] = [
    (
        "request-id",
        "requestId",
        "ID",
        "Shows only the call with this request id",
    ),
    (
        "key",
        "key",
        "KEY",
        "Shows only calls with this Idempotency-Key",
    ),
    (
        "client",
        "client",
        "NAME",
        "Shows only calls of the client whose token has this name",
    ),
    (
        "task",
        "taskId",
        "ID",
        "Shows only the call whose job is this task",
    ),
    (
        "since",
        "since",
        "TIME",
        "Shows only calls since this time, such as 2026-01-31T12:00:00Z, or this long ago, such as 2h",
    ),
];

/// Their definitions.
pub(super) fn commands() -> impl Iterator<Item = Command> {
    let once = |help| flags::switch(ONCE, help);
    let account = || {
        let help = "The account: its e-mail or its alias";
        required(ACCOUNT, "ACCOUNT", help)
    };
    [
        client(
            "status",
            "Shows a running sidecar at a glance: its health, what is wrong, what waits, what happened",
        ),
        client(
            "top",
            "Shows accounts, slots, queue and events of a running sidecar, drawn anew each second",
        )
        .arg(once("Prints one picture, as where standard output is no terminal")),
        client("accounts", "Shows the accounts of a running sidecar"),
        client("leases", "Shows who holds the slots of a running sidecar"),
        client(
            "jobs",
            "Shows what became of the job starts of the last 24 hours, the newest first",
        )
        .args(JOBS_FLAGS.map(field)),
        client(
            "events",
            "Prints what happened at a running sidecar, and what happens from then on",
        )
        .arg(once("Prints what happened, and ends"))
        .arg(
            flags::switch(NEW, "Prints only what happens from now on").conflicts_with(ONCE),
        ),
        client("pick", "Leases a slot of a running sidecar")
            .args(PICK_FLAGS.map(field))
            .arg(flags::switch(
                DRY_RUN,
                "Takes nothing; says which accounts could be picked, and why not the others",
            )),
        client("release", "Gives a lease back to a running sidecar").arg(required(
            LEASE,
            "LEASE_ID",
            "The lease: leaseId in the answer of a pick, LEASE on the terminal",
        )),
        client(
            "drain",
            "Gives an account no new jobs; those that run go on",
        )
        .arg(account()),
        client(
            "resume",
            "Gives an account jobs again: ends a drain, a rest, a quarantine or parking",
        )
        .arg(account()),
        client(
            "state",
            "Shows what a running sidecar keeps over restarts, and what it knows of marks",
        ),
    ]
    .into_iter()
}

/// What a command asks; `None` if it is none of these.
pub(super) fn ask(name: &str, flags: &ArgMatches) -> Option<CliAsk> {
    let word = |id: &str| flags.get_one::<String>(id).cloned().unwrap_or_default();
    Some(match name {
        "status" => CliAsk::Status,
        "top" => CliAsk::Top {
            is_once: flags.get_flag(ONCE),
        },
        "accounts" => CliAsk::Accounts,
        "leases" => CliAsk::Leases,
        "jobs" => CliAsk::Jobs {
            query: query(&JOBS_FLAGS, flags),
        },
        "events" => CliAsk::Events {
            wanted: match (flags.get_flag(ONCE), flags.get_flag(NEW)) {
                (true, _) => Wanted::Kept,
                (_, true) => Wanted::New,
                (false, false) => Wanted::All,
            },
        },
        "pick" => {
            let mut query = query(&PICK_FLAGS, flags);
            if flags.get_flag(DRY_RUN) {
                query.push(("dryRun", "true".to_owned()));
            }
            CliAsk::Pick { query }
        }
        "release" => CliAsk::Release {
            lease_id: word(LEASE),
        },
        "drain" => CliAsk::Drain {
            account: word(ACCOUNT),
        },
        "resume" => CliAsk::Resume {
            account: word(ACCOUNT),
        },
        "state" => CliAsk::State,
        _ => return None,
    })
}

/// A command that asks a running sidecar.
fn client(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .about(about)
        // Behind the flags of the command itself.
        .arg(flags::json().display_order(100))
        .arg(flags::url().display_order(100))
        .arg(flags::token_file().display_order(100))
        .arg(listen())
        .arg(flags::fallback(
            "auth.tokens_file",
            "Shows the first token of the sidecar's own file [default: that of KLB_AUTH__TOKENS]",
        ))
}

pub(super) fn listen() -> Arg {
    let help = "Asks the sidecar that listens there [default: 127.0.0.1:8080]";
    flags::fallback("listen", help)
}

fn required(name: &'static str, value_name: &'static str, help: &'static str) -> Arg {
    let arg = Arg::new(name).value_name(value_name);
    arg.required(true).help(help)
}

fn field((flag, _, value_name, help): Field) -> Arg {
    let action = if flag == "exclude" {
        ArgAction::Append
    } else {
        ArgAction::Set
    };
    let arg = Arg::new(flag).long(flag).value_name(value_name);
    arg.action(action).help(help)
}

fn query(fields: &[Field], flags: &ArgMatches) -> Vec<(&'static str, String)> {
    let given = fields.iter().flat_map(|(flag, field, ..)| {
        let values = flags.get_many::<String>(flag).into_iter().flatten();
        values.map(|value| (*field, value.clone()))
    });
    given.collect()
}
