//! The command line: the subcommands, and one flag for every setting that is not secret.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use crate::config::SETTINGS;

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// The sidecar.
    Serve,
    /// Reading the settings, and no more.
    CheckConfig,
    /// Asking a running sidecar.
    Ask(CliAsk),
    /// Writing the completions for a shell.
    Completions(Shell),
}

/// What to ask a running sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CliAsk {
    /// Whether it is ready.
    Health,
    /// Its accounts.
    Accounts {
        /// As JSON.
        is_json: bool,
    },
    /// A slot.
    Pick {
        /// What the pick says.
        query: Vec<(&'static str, String)>,
        /// As JSON.
        is_json: bool,
    },
    /// Releasing a slot.
    Release {
        /// Which lease.
        lease_id: String,
    },
}

/// The command line's definition.
pub fn command() -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .global(true)
        .value_parser(value_parser!(PathBuf))
        .help("Settings file, TOML");
    let flags = SETTINGS
        .iter()
        .filter(|setting| !setting.is_secret)
        .map(|setting| {
            let default = match setting.default {
                "" => String::new(),
                default => format!(" [default: {default}]"),
            };
            Arg::new(setting.key)
                .long(setting.key)
                .value_name("VALUE")
                .global(true)
                .action(ArgAction::Set)
                .help(format!("{}{default}", setting.help))
        });
    Command::new("kling-balancer")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Puts every Kling job on a random account with a free slot")
        .after_help(
            "Every setting can also be given as an environment variable (KLB_UPSTREAM__TOKEN for \
             upstream.token) or in the file. A flag wins over a variable, a variable over the file.",
        )
        .arg(config)
        .args(flags)
        .subcommand(Command::new("serve").about("Runs the sidecar (the default)"))
        .subcommand(Command::new("check-config").about("Checks the settings and says what is wrong"))
        .subcommand(
            Command::new("healthcheck").about("Asks a running sidecar: exit code 0 if it is ready"),
        )
        .subcommand(
            Command::new("accounts")
                .about("Shows the accounts of a running sidecar")
                .arg(json()),
        )
        .subcommand(pick())
        .subcommand(
            Command::new("release")
                .about("Gives a lease back to a running sidecar")
                .arg(Arg::new("lease").value_name("LEASE_ID").required(true)),
        )
        .subcommand(
            Command::new("completions")
                .about("Writes the completions for a shell to standard output")
                .arg(
                    Arg::new("shell")
                        .required(true)
                        .value_parser(value_parser!(Shell)),
                ),
        )
}

fn json() -> Arg {
    Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help("Print the JSON that the sidecar answers")
}

/// Flags of `pick`, with the fields of a pick that they fill.
const PICK_FLAGS: [(&str, &str, &str); 4] = [
    ("email", "email", "Only this account"),
    ("exclude", "exclude", "Any but this account; repeatable"),
    ("wait", "wait", "How long to wait for a slot, such as 30s"),
    ("ttl", "ttl", "How long to hold the slot, such as 5m"),
];
const DRY_RUN: &str = "dry-run";

fn pick() -> Command {
    let flags = PICK_FLAGS.map(|(flag, _, help)| {
        let action = if flag == "exclude" {
            ArgAction::Append
        } else {
            ArgAction::Set
        };
        Arg::new(flag)
            .long(flag)
            .value_name("VALUE")
            .action(action)
            .help(help)
    });
    let dry_run = Arg::new(DRY_RUN)
        .long(DRY_RUN)
        .action(ArgAction::SetTrue)
        .help("Take nothing; say which accounts could be picked, and why not the others");
    Command::new("pick")
        .about("Leases a slot of a running sidecar")
        .args(flags)
        .arg(dry_run)
        .arg(json())
}

/// Which task a command line names, with the flags that go with it.
pub fn task(matches: &ArgMatches) -> (Task, &ArgMatches) {
    let Some((name, flags)) = matches.subcommand() else {
        return (Task::Serve, matches);
    };
    let word = |id: &str| flags.get_one::<String>(id).cloned().unwrap_or_default();
    let task = match name {
        "check-config" => Task::CheckConfig,
        "healthcheck" => Task::Ask(CliAsk::Health),
        "accounts" => Task::Ask(CliAsk::Accounts {
            is_json: flags.get_flag("json"),
        }),
        "pick" => Task::Ask(CliAsk::Pick {
            query: pick_query(flags),
            is_json: flags.get_flag("json"),
        }),
        "release" => Task::Ask(CliAsk::Release {
            lease_id: word("lease"),
        }),
        "completions" => match flags.get_one::<Shell>("shell") {
            Some(shell) => Task::Completions(*shell),
            None => Task::Serve,
        },
        _ => Task::Serve,
    };
    (task, flags)
}

fn pick_query(flags: &ArgMatches) -> Vec<(&'static str, String)> {
    let given = PICK_FLAGS.iter().flat_map(|(flag, field, _)| {
        let values = flags.get_many::<String>(flag).into_iter().flatten();
        values.map(|value| (*field, value.clone()))
    });
    let dry_run = flags
        .get_flag(DRY_RUN)
        .then(|| ("dryRun", "true".to_owned()));
    given.chain(dry_run).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds_together() {
        command().debug_assert();
    }

    #[test]
    fn a_pick_says_what_its_flags_say() {
        let line = "kling-balancer pick --exclude a+1@x --wait 30s --exclude b@x --dry-run --json";
        let matches = command().get_matches_from(line.split(' '));
        let query = [
            ("exclude", "a+1@x"),
            ("exclude", "b@x"),
            ("wait", "30s"),
            ("dryRun", "true"),
        ];
        let query = query.map(|(name, value)| (name, value.to_owned())).to_vec();
        let is_json = true;
        assert_eq!(task(&matches).0, Task::Ask(CliAsk::Pick { query, is_json }));
    }
}
