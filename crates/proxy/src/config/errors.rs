//! The mistakes in the settings, all of them together.

use std::{error::Error, fmt};

/// All errors in the settings.
#[derive(Debug, Default)]
pub struct ConfigErrors(Vec<ConfigError>);

#[derive(Debug)]
struct ConfigError {
    subject: Subject,
    text: String,
}

/// What an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    /// A source as a whole: a file that cannot be read.
    Source,
    /// A name that is no setting.
    Name,
    /// The value of a setting.
    Setting(&'static str),
}

impl ConfigErrors {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of the setting `key` is wrong.
    pub(super) fn add(
        &mut self,
        key: &'static str,
        place: impl fmt::Display,
        problem: impl fmt::Display,
    ) {
        self.push(Subject::Setting(key), format!("{place}: {problem}"));
    }

    /// A file cannot be read.
    pub(super) fn unreadable(&mut self, place: impl fmt::Display, problem: impl fmt::Display) {
        self.push(Subject::Source, format!("{place}: {problem}"));
    }

    /// `what` stands for no setting. `nearest` are the names that may be meant.
    pub(super) fn unknown(&mut self, place: &str, what: &str, nearest: &[String]) {
        let hint = if nearest.is_empty() {
            "; `kling-balancer serve --help` lists all settings".to_owned()
        } else {
            let names: Vec<_> = nearest.iter().map(|name| format!("`{name}`")).collect();
            format!("; did you mean {}?", names.join(" or "))
        };
        self.push(Subject::Name, format!("{place}: unknown {what}{hint}"));
    }

    /// Keeps what matters to one who reads only the settings `keys`.
    pub(super) fn retain(&mut self, keys: &[&str]) {
        self.0.retain(|error| match error.subject {
            Subject::Source => true,
            Subject::Name => false,
            Subject::Setting(key) => keys.contains(&key),
        });
    }

    fn push(&mut self, subject: Subject, text: String) {
        self.0.push(ConfigError { subject, text });
    }
}

impl Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.0.iter().map(|error| error.text.as_str()).collect();
        f.write_str(&texts.join("\n"))
    }
}
