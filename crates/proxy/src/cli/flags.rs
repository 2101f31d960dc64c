//! The flags: one for every setting that is not secret, and those of clients.

use std::path::PathBuf;

use clap::{Arg, ArgAction, value_parser};

use crate::config::{SETTINGS, Setting};

/// Where a client finds the sidecar.
pub const URL_FLAG: &str = "url";
/// The file that holds the token that a client shows.
pub const TOKEN_FILE_FLAG: &str = "token-file";

const SETTINGS_HEADING: &str = "Settings";
const FALLBACK_HEADING: &str = "Without --url or --token-file, as the sidecar has it";

/// The file of settings.
pub(super) fn config() -> Arg {
    Arg::new("config")
        .long("config")
        .value_name("FILE")
        .global(true)
        .value_parser(value_parser!(PathBuf))
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

/// Where a client finds the sidecar, and the settings that it reads otherwise.
pub(super) fn address(fallback: &[&str]) -> Vec<Arg> {
    let url = Arg::new(URL_FLAG)
        .long(URL_FLAG)
        .value_name("URL")
        .help("Asks the sidecar at this address, such as http://127.0.0.1:8080");
    let fallback = SETTINGS.iter().filter(|it| fallback.contains(&it.key));
    let fallback = fallback.map(|setting| flag(setting).help_heading(FALLBACK_HEADING));
    [url].into_iter().chain(fallback).collect()
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
