//! `check-config`: what is wrong or doubtful in the settings, and every setting in force with its source.

use std::path::Path;

use clap::ArgMatches;

use super::{
    Config, ConfigErrors, SETTINGS,
    reader::{ConfigReader, TOKEN_MISSING},
    source::Text,
    value::in_words,
};
use crate::terminal::aligned;

/// What a check of the settings finds.
#[derive(Debug)]
pub struct Checked {
    /// Every setting, its value in force, and where that comes from. Secrets are hidden.
    pub in_force: String,
    /// What is valid and probably not meant, or missing where the settings are checked.
    pub doubts: Vec<String>,
    /// What is wrong.
    pub errors: Option<ConfigErrors>,
}

impl Checked {
    /// Checks the settings of `flags`, `env` and `file`. A token that is not given is no error here: the place
    /// where settings are checked need not know it.
    pub fn new(
        flags: &ArgMatches,
        env: impl Iterator<Item = (String, String)>,
        file: Option<&Path>,
    ) -> Self {
        let mut reader = ConfigReader::gather(flags, env, file);
        let config = reader.config();
        let in_force = in_force(&reader, config.as_ref());
        let mut doubts = config.map_or_else(Vec::new, |config| config.doubts);
        if reader.is_token_missing {
            doubts.push(format!(
                "upstream.token: {TOKEN_MISSING}. All else can be checked without it, but `serve` does not \
                 start"
            ));
        }
        Self {
            in_force,
            doubts,
            errors: Some(reader.errors).filter(|errors| !errors.is_empty()),
        }
    }
}

fn in_force(reader: &ConfigReader, config: Option<&Config>) -> String {
    let mut rows = vec![["SETTING", "VALUE", "FROM"].map(str::to_owned)];
    for setting in SETTINGS {
        let (value, from) = match reader.layers.get(setting.key) {
            Some((_, origin)) if setting.is_secret => ("<redacted>".to_owned(), origin.to_string()),
            Some((Text::One(word), origin)) => (word, origin.to_string()),
            Some((Text::Many(words), origin)) => (format!("{words:?}"), origin.to_string()),
            None => {
                let of_state = config.and_then(|config| config.state.derived(setting.key));
                let (value, from) = of_state.unwrap_or_else(|| {
                    let derived = match setting.key {
                        "forward.wait" => config.map(|config| in_words(config.forward.wait)),
                        "runtime.workers" => Some("one per core".to_owned()),
                        _ => None,
                    };
                    (derived.unwrap_or_else(|| "-".to_owned()), "default")
                });
                (value, from.to_owned())
            }
        };
        rows.push([setting.key.to_owned(), value, from]);
    }
    aligned(&rows) + "\n"
}
