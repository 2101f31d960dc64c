//! What an unknown flag was probably meant to be.
//!
//! Likeness alone would send the token of the upstream into the place of client tokens.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::flags::{TOKEN_FILE_FLAG, URL_FLAG};
use crate::config::{SETTINGS, nearest};

/// The same error, with the setting that an unknown flag was probably meant to be.
pub fn with_hint(mut error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let unknown = unknown.trim_start_matches('-').to_owned();
    if let Some(ContextValue::String(similar)) = error.get(ContextKind::SuggestedArg) {
        let similar = similar.trim_start_matches('-');
        if [URL_FLAG, TOKEN_FILE_FLAG].contains(&similar) {
            return error; // A client's own flag.
        }
    }
    let nearest = nearest(&unknown);
    let [first, ..] = *nearest else {
        return error;
    };
    // It would show what likeness alone suggests.
    error.remove(ContextKind::Usage);
    if first.is_secret {
        let variable = first.env_name();
        let mut hint = format!(
            "a secret is no flag, since every user of this machine can read those: set {variable}"
        );
        let file_key = format!("{}_file", first.key);
        if SETTINGS.iter().any(|setting| setting.key == file_key) {
            hint += &format!(", or --{file_key} to a file that holds it");
        }
        error.remove(ContextKind::SuggestedArg);
        let hint = ContextValue::StyledStrs(vec![hint.into()]);
        error.insert(ContextKind::Suggested, hint);
    } else {
        let flags = nearest.iter().filter(|setting| !setting.is_secret);
        let flags = flags.map(|setting| format!("--{}", setting.key)).collect();
        error.insert(ContextKind::SuggestedArg, ContextValue::Strings(flags));
    }
    error
}
