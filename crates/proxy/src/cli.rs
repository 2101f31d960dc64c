//! The command line: the subcommands and their flags.

mod clients;
mod flags;
mod hints;

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

pub use flags::{TOKEN_FILE_FLAG, URL_FLAG};
pub use hints::with_hint;

use crate::{client::Wanted, config::Purpose};

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// The sidecar.
    Serve,
    /// Reading the settings, and no more.
    CheckConfig {
        /// Whether every setting in force is shown.
        prints: bool,
    },
    /// Asking a running sidecar.
    Ask {
        /// What.
        ask: CliAsk,
        /// Whether its answer is printed as JSON.
        is_json: bool,
    },
    /// Writing the completions for a shell.
    Completions(Shell),
}

/// What to ask a running sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CliAsk {
    /// Whether it is ready, or only whether it is alive.
    Health {
        /// Whether it is alive.
        is_live: bool,
    },
    /// Everything at a glance.
    Status,
    /// The same, drawn anew each second.
    Top {
        /// One picture, as plain text.
        is_once: bool,
    },
    /// Its accounts.
    Accounts,
    /// Who holds its slots.
    Leases,
    /// What became of job starts.
    Jobs {
        /// Which ones.
        query: Vec<(&'static str, String)>,
    },
    /// What happens.
    Events {
        /// Which of it.
        wanted: Wanted,
    },
    /// A slot.
    Pick {
        /// What the pick says.
        query: Vec<(&'static str, String)>,
    },
    /// What it keeps over restarts.
    State,
    /// Releasing a slot.
    Release {
        /// Which lease.
        lease_id: String,
    },
    /// Giving an account no new jobs.
    Drain {
        /// Its e-mail or alias.
        account: String,
    },
    /// Giving an account jobs again.
    Resume {
        /// Its e-mail or alias.
        account: String,
    },
}

impl CliAsk {
    /// What the client wants of the sidecar.
    pub fn purpose(&self) -> Purpose {
        match self {
            Self::Health { .. } => Purpose::Probe,
            Self::Status
            | Self::Top { .. }
            | Self::Accounts
            | Self::Leases
            | Self::Jobs { .. }
            | Self::Events { .. }
            | Self::Pick { .. }
            | Self::State
            | Self::Release { .. }
            | Self::Drain { .. }
            | Self::Resume { .. } => Purpose::Api,
        }
    }
}

/// The command line's definition.
pub fn command() -> Command {
    Command::new("kling-balancer")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Puts every Kling job on a random account with a free slot")
        .after_help(
            "Without a command it serves. `kling-balancer serve --help` lists the settings. Each can also\n\
             be given as an environment variable (KLB_UPSTREAM__TOKEN for upstream.token) or in the file.\n\
             A flag wins over a variable, a variable over the file.",
        )
        .arg(flags::config())
        .args(flags::hidden_settings())
        .subcommand(
            Command::new("serve")
                .about("Runs the sidecar (the default)")
                .args(flags::settings()),
        )
        .subcommand(
            Command::new("check-config")
                .about("Checks the settings and says what is wrong")
                .arg(flags::switch(
                    PRINT,
                    "Prints every setting in force and where it comes from, secrets hidden",
                ))
                .args(flags::settings()),
        )
        .subcommand(
            Command::new("healthcheck")
                .about("Asks a running sidecar whether it is ready: exit code 0 if it is")
                .arg(flags::switch(LIVE, "Asks only whether it is alive, ready or not"))
                .arg(flags::url())
                .arg(clients::listen())
                .arg(flags::fallback(
                    "metrics.listen",
                    "Asks the sidecar whose second listener is at this address",
                )),
        )
        .subcommands(clients::commands())
        .subcommand(
            Command::new("completions")
                .about("Writes the completions for a shell to standard output")
                .arg(flags::config().hide(true))
                .arg(
                    Arg::new("shell")
                        .value_name("SHELL")
                        .required(true)
                        .value_parser(value_parser!(Shell))
                        .help("Your shell"),
                ),
        )
}

const PRINT: &str = "print";
const LIVE: &str = "live";

/// Which task a command line names, with the flags that go with it.
pub fn task(matches: &ArgMatches) -> (Task, &ArgMatches) {
    let Some((name, flags)) = matches.subcommand() else {
        return (Task::Serve, matches);
    };
    let task = match name {
        "check-config" => Task::CheckConfig {
            prints: flags.get_flag(PRINT),
        },
        "healthcheck" => Task::Ask {
            ask: CliAsk::Health {
                is_live: flags.get_flag(LIVE),
            },
            is_json: false,
        },
        "completions" => match flags.get_one::<Shell>("shell") {
            Some(shell) => Task::Completions(*shell),
            None => Task::Serve,
        },
        name => match clients::ask(name, flags) {
            Some(ask) => Task::Ask {
                ask,
                is_json: flags.get_flag("json"),
            },
            None => Task::Serve,
        },
    };
    (task, flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SETTINGS;

    /// What `--help` of a command shows.
    fn help(name: &str) -> String {
        let mut command = command();
        command.build();
        let found = command.find_subcommand_mut(name).unwrap();
        found.render_long_help().to_string()
    }

    fn settings_in(help: &str) -> Vec<&'static str> {
        let keys = SETTINGS.iter().map(|setting| setting.key);
        keys.filter(|key| help.contains(&format!("--{key} ")))
            .collect()
    }

    #[test]
    fn a_command_shows_its_own_flags_first_and_only_settings_that_it_reads() {
        for name in ["serve", "check-config"] {
            let help = help(name);
            let shown = SETTINGS.iter().filter(|setting| !setting.is_secret).count();
            assert_eq!(settings_in(&help).len(), shown, "{help}");
            assert!(help.find("--config").unwrap() < help.find("--listen").unwrap());
        }
        let (listen, tokens) = ("listen", "auth.tokens_file");
        for (name, own, settings) in [
            ("accounts", "--json", vec![listen, tokens]),
            ("pick", "--wait", vec![listen, tokens]),
            ("release", "LEASE_ID", vec![listen, tokens]),
            ("top", "--once", vec![listen, tokens]),
            ("jobs", "--request-id", vec![listen, tokens]),
            ("events", "--new", vec![listen, tokens]),
            ("drain", "<ACCOUNT>", vec![listen, tokens]),
            ("healthcheck", "--live", vec![listen, "metrics.listen"]),
            ("completions", "Your shell", vec![]),
        ] {
            let help = help(name);
            assert_eq!(settings_in(&help), settings, "{help}");
            let own = help.find(own).unwrap();
            let config = help.find("--config");
            assert!(config.is_none_or(|config| own < config), "{help}");
            assert!(
                help.find("--listen").is_none_or(|listen| own < listen),
                "{help}"
            );
        }
        let mut root = command();
        assert_eq!(
            settings_in(&root.render_long_help().to_string()),
            Vec::<&str>::new()
        );
    }

    #[test]
    fn every_flag_and_argument_has_a_help_text() {
        let mut command = command();
        command.build();
        for command in command
            .get_subcommands()
            .filter(|it| it.get_name() != "help")
        {
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{} {arg}", command.get_name());
            }
        }
    }

    #[test]
    fn a_setting_counts_in_front_of_a_command_and_behind_it() {
        for (line, listen) in [
            ("kling-balancer --listen 127.0.0.1:1 serve", "127.0.0.1:1"),
            ("kling-balancer serve --listen 127.0.0.1:2", "127.0.0.1:2"),
            (
                "kling-balancer --listen 127.0.0.1:3 accounts",
                "127.0.0.1:3",
            ),
            (
                "kling-balancer accounts --listen 127.0.0.1:4",
                "127.0.0.1:4",
            ),
            (
                "kling-balancer accounts --leases.ttl 5s --listen 127.0.0.1:5",
                "127.0.0.1:5",
            ),
        ] {
            let matches = command().get_matches_from(line.split(' '));
            let (_, flags) = task(&matches);
            assert_eq!(flags.get_one::<String>("listen").unwrap(), listen, "{line}");
        }
    }

    #[test]
    fn an_unknown_flag_is_told_as_what_it_means() {
        for (line, wanted) in [
            (
                "kling-balancer serve --token-file x",
                "'--upstream.token_file'",
            ),
            ("kling-balancer --token_file x", "'--upstream.token_file'"),
            (
                "kling-balancer --token x",
                "set KLB_UPSTREAM__TOKEN, or --upstream.token_file",
            ),
            (
                "kling-balancer --upstream.token x",
                "set KLB_UPSTREAM__TOKEN",
            ),
            ("kling-balancer --leases.tt 5s", "'--leases.ttl'"),
            (
                "kling-balancer --wait 5s",
                "'--selection.wait', '--forward.wait'",
            ),
            ("kling-balancer accounts --token x", "'--token-file'"),
        ] {
            let error = command().try_get_matches_from(line.split(' ')).unwrap_err();
            let said = with_hint(error).to_string();
            assert!(said.contains(wanted), "{line}: {said}");
            let is_of_clients = said.contains("auth.tokens");
            assert!(!is_of_clients, "{line}: {said}");
        }
    }

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
        let ask = CliAsk::Pick { query };
        assert_eq!(task(&matches).0, Task::Ask { ask, is_json });
    }
}
