//! The command line: what one can run, and one flag for every setting that is no secret.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::config::SETTINGS;

/// What to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// The sidecar.
    Serve,
    /// Reading the settings, and no more.
    CheckConfig,
    /// Asking a running sidecar whether it is ready.
    Healthcheck,
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
}

/// Which task a command line names, with the flags that go with it.
pub fn task(matches: &ArgMatches) -> (Task, &ArgMatches) {
    match matches.subcommand() {
        Some(("check-config", flags)) => (Task::CheckConfig, flags),
        Some(("healthcheck", flags)) => (Task::Healthcheck, flags),
        Some((_, flags)) => (Task::Serve, flags),
        None => (Task::Serve, matches),
    }
}
