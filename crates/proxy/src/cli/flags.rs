//! The flags: one for every setting that is not secret, and those of clients.

use std::path::PathBuf;

use clap::{Arg, ArgAction, value_parser};

use crate::config::{SETTINGS, Setting};

/// Where a client finds the sidecar.
pub const URL_FLAG: &str = "url";
/// The file that holds the token that a client shows.
pub const TOKEN_FILE_FLAG: &str = "token-file";

const SETTINGS_HEADING: &str = "Settings";
const FALLBACK_HEADING: &str = "Settings of the sidecar that count if these are not given";
/// Behind the flags of a command itself, and in front of `--help`.
const LAST: usize = 900;

/// The file of settings.
pub(super) fn config() -> Arg {
    Arg::new("config")
        .long("config")
        .value_name("FILE")
        .global(true)
        .value_parser(value_parser!(PathBuf))
        .display_order(LAST)
        .help("Reads the settings from this TOML file")
}

/// Every setting, shown below the flags of the command itself.
pub(super) fn settings() -> impl Iterator<Item = Arg> {
    let shown = SETTINGS.iter().filter(|setting| !setting.is_secret);
    shown.map(|setting| flag(setting).help_heading(SETTINGS_HEADING))
}

/// Every setting, taken in front of and behind any command, and not shown: most commands need none.
pub(super) fn hidden_settings() -> impl Iterator<Item = Arg> {
    settings().map(|flag| flag.global(true).hide(true))
}

/// Where a client finds the sidecar.
pub(super) fn url() -> Arg {
    Arg::new(URL_FLAG)
        .long(URL_FLAG)
        .value_name("URL")
        .help("Asks the sidecar at this address, such as http://127.0.0.1:8080")
}

/// A setting of the sidecar that a client reads if its own flags do not say it.
pub(super) fn fallback(key: &'static str, help: &'static str) -> Arg {
    let flag = Arg::new(key).long(key).value_name("VALUE");
    flag.help_heading(FALLBACK_HEADING).help(help)
}

/// The token that a client shows.
pub(super) fn token_file() -> Arg {
    Arg::new(TOKEN_FILE_FLAG)
        .long(TOKEN_FILE_FLAG)
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("Shows the first client token in this file")
}

pub(super) fn json() -> Arg {
    switch("json", "Prints the JSON that the sidecar answers")
}

pub(super) fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::SetTrue)
        .help(help)
}

fn flag(setting: &Setting) -> Arg {
    let default = match setting.default {
        "" => String::new(),
        default => format!(" [default: {default}]"),
    };
    Arg::new(setting.key)
        .long(setting.key)
        .value_name("VALUE")
        .action(ArgAction::Set)
        .help(format!("{}{default}", setting.help))
}
