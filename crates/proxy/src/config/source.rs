//! The sources of settings: flags, environment, file. Reads text and does not check values.

use std::{collections::HashMap, env, ffi::OsString, fmt, path::Path};

use clap::ArgMatches;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    ConfigErrors,
    hints::{nearest, nearest_section},
    settings::{ENV_PREFIX, SETTINGS, Setting},
};

/// The largest settings file: a hundred times the annotated one.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// In which systemd names the directory of `StateDirectory=`.
const STATE_DIRECTORY: &str = "STATE_DIRECTORY";

/// The environment of this process. Bytes that are not UTF-8 become a replacement character, which
/// no setting accepts, so that they are reported as an error.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

/// A variable that names a proxy to other programs, if one is set.
pub fn unused_proxy_variable() -> Option<&'static str> {
    const NAMES: [&str; 6] = [
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "ALL_PROXY",
        "https_proxy",
        "http_proxy",
        "all_proxy",
    ];
    let is_set = |name: &&str| env::var_os(name).is_some_and(|value| !value.is_empty());
    NAMES.into_iter().find(is_set)
}

/// The source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Flag,
    Env(String),
    File { path: String, line: usize },
    Default,
}

impl Origin {
    /// Names the source of `key`, in the words of that source.
    pub(super) fn naming(&self, key: &str) -> String {
        match self {
            Self::Flag => format!("--{key}"),
            Self::Env(name) => name.clone(),
            Self::File { path, line } => format!("{path}:{line}: {key}"),
            Self::Default => key.to_owned(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Env(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value as text: a word, or a list of words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Text {
    One(String),
    Many(Vec<String>),
}

/// The values from all sources, each from the strongest source that sets it.
#[derive(Debug, Default)]
pub(super) struct Layers {
    values: HashMap<&'static str, (Text, Origin)>,
    /// The file could not be read to its end: what seems missing may stand there.
    pub(super) is_partial: bool,
    /// The directory that systemd made for the state of this service.
    pub(super) state_directory: Option<String>,
}

impl Layers {
    /// Precedence: flag, then environment, then file.
    pub(super) fn gather(
        flags: &ArgMatches,
        env: impl Iterator<Item = (String, String)>,
        file: Option<&Path>,
        errors: &mut ConfigErrors,
    ) -> Self {
        let mut layers = Self::default();
        if let Some(path) = file {
            layers.read_file(path, errors);
        }
        layers.read_env(env, errors);
        layers.read_flags(flags, errors);
        layers
    }

    /// The value of `key`, else its default. `None` if there is neither.
    pub(super) fn get(&self, key: &'static str) -> Option<(Text, Origin)> {
        if let Some(given) = self.values.get(key) {
            return Some(given.clone());
        }
        let default = find(key)?.default;
        let text = parse_text(default).ok().filter(|_| !default.is_empty())?;
        Some((text, Origin::Default))
    }

    /// The value of `key`, if it is one word.
    pub(super) fn word(&self, key: &'static str) -> Option<String> {
        match self.get(key)? {
            (Text::One(word), _) => Some(word),
            (Text::Many(_), _) => None,
        }
    }

    /// Names the source of `key`, in the words of that source.
    pub(super) fn naming(&self, key: &'static str) -> String {
        self.get(key)
            .map_or_else(|| key.to_owned(), |(_, origin)| origin.naming(key))
    }

    fn add(&mut self, key: &'static str, text: &str, origin: Origin, errors: &mut ConfigErrors) {
        match parse_text(text) {
            Ok(text) => {
                self.values.insert(key, (text, origin));
            }
            Err(problem) => errors.add(key, origin.naming(key), problem),
        }
    }

    fn read_flags(&mut self, flags: &ArgMatches, errors: &mut ConfigErrors) {
        for setting in SETTINGS.iter().filter(|setting| !setting.is_secret) {
            // A command line of another program's making need not have all flags.
            if let Ok(Some(value)) = flags.try_get_one::<String>(setting.key) {
                self.add(setting.key, value, Origin::Flag, errors);
            }
        }
    }

    /// An empty variable counts as not set: `${NAME:-}` leaves one behind.
    fn read_env(&mut self, env: impl Iterator<Item = (String, String)>, errors: &mut ConfigErrors) {
        let env = env.inspect(|(name, value)| {
            if name == STATE_DIRECTORY && !value.is_empty() {
                self.state_directory = Some(value.clone());
            }
        });
        let mut ours: Vec<_> = env
            .filter(|(name, value)| {
                name.starts_with(ENV_PREFIX) && !value.is_empty() && !is_of_a_service(name)
            })
            .collect();
        ours.sort_unstable();
        for (name, value) in ours {
            let key = name[ENV_PREFIX.len()..].replace("__", ".").to_lowercase();
            match find(&key) {
                Some(setting) => {
                    self.add(setting.key, &value, Origin::Env(name), errors);
                }
                None => {
                    let hints: Vec<_> = nearest(&key).iter().map(|it| it.env_name()).collect();
                    errors.unknown(&name, "environment variable", &hints);
                }
            }
        }
    }

    fn read_file(&mut self, path: &Path, errors: &mut ConfigErrors) {
        let shown = path.display().to_string();
        let text = match std::fs::metadata(path) {
            Ok(found) if found.len() > FILE_BYTES_MAX => {
                Err(format!("larger than {FILE_BYTES_MAX} bytes"))
            }
            Ok(_) | Err(_) => std::fs::read_to_string(path).map_err(|error| error.to_string()),
        };
        let text = match text {
            Ok(text) => text,
            Err(error) => {
                errors.unreadable(shown, format!("cannot be read ({error}); check --config"));
                self.is_partial = true;
                return;
            }
        };
        let line_of = |offset: usize| text[..offset].matches('\n').count() + 1;
        let (table, syntax_errors) = DeTable::parse_recoverable(&text);
        for error in syntax_errors {
            let line = error.span().map_or(1, |span| line_of(span.start));
            errors.unreadable(format!("{shown}:{line}"), error.message());
            self.is_partial = true;
        }
        self.read_table("", table.get_ref(), &shown, &line_of, errors);
    }

    fn read_table(
        &mut self,
        prefix: &str,
        table: &DeTable<'_>,
        path: &str,
        line_of: &dyn Fn(usize) -> usize,
        errors: &mut ConfigErrors,
    ) {
        for (name, value) in table.iter() {
            let key = format!("{prefix}{}", name.get_ref());
            let line = line_of(name.span().start);
            let is_section = SETTINGS.iter().any(|setting| {
                setting
                    .key
                    .strip_prefix(&*key)
                    .is_some_and(|rest| rest.starts_with('.'))
            });
            match (find(&key), value.get_ref()) {
                (_, DeValue::Table(inner)) if is_section => {
                    self.read_table(&format!("{key}."), inner, path, line_of, errors);
                }
                (Some(setting), value) => {
                    let origin = Origin::File {
                        path: path.to_owned(),
                        line,
                    };
                    match text_of(value) {
                        Some(text) => {
                            self.values.insert(setting.key, (text, origin));
                        }
                        None => errors.add(
                            setting.key,
                            origin.naming(setting.key),
                            "expected a value or a list of values, not a table",
                        ),
                    }
                }
                (None, value) => {
                    let place = format!("{path}:{line}");
                    let is_section = prefix.is_empty() && value.is_table();
                    let section = nearest_section(&key).filter(|_| is_section);
                    let (what, hints) = match section {
                        Some(section) => ("section", vec![section.to_owned()]),
                        None => (
                            "key",
                            nearest(&key).iter().map(|it| it.key.to_owned()).collect(),
                        ),
                    };
                    errors.unknown(&place, &format!("{what} `{key}`"), &hints);
                }
            }
        }
    }
}

/// Whether Kubernetes sets this variable for a Service that is called `klb`.
fn is_of_a_service(name: &str) -> bool {
    name == "KLB_PORT" || name.starts_with("KLB_PORT_") || name.starts_with("KLB_SERVICE_")
}

fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// Text outside a file: a list is written `["a", "b"]` as in TOML, anything else is one word.
fn parse_text(text: &str) -> Result<Text, String> {
    // [::1]:8080 is a word.
    if !(text.trim_start().starts_with('[') && text.trim_end().ends_with(']')) {
        return Ok(Text::One(text.to_owned()));
    }
    let list = DeValue::parse(text)
        .ok()
        .and_then(|value| text_of(value.get_ref()));
    list.ok_or_else(|| r#"expected one word, or a list such as ["one", "two"]"#.to_owned())
}

fn text_of(value: &DeValue<'_>) -> Option<Text> {
    match value.as_array() {
        Some(items) => items
            .iter()
            .map(Spanned::get_ref)
            .map(word_of)
            .collect::<Option<_>>()
            .map(Text::Many),
        None => word_of(value).map(Text::One),
    }
}

fn word_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.clone().into_owned()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Datetime(time) => Some(time.to_string()),
        DeValue::Array(_) | DeValue::Table(_) => None,
    }
}
