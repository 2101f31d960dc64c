//! Which setting a misspelt name was probably meant to be.

use super::settings::{SETTINGS, Setting};

/// From which likeness on a name counts as misspelt, by Jaro and Winkler: 1 is equal.
const LIKENESS_MIN: f64 = 0.85;

/// The settings that `name` may stand for: `upstream_token`, `token-file` without its section, `leases.tt`.
pub(crate) fn nearest(name: &str) -> Vec<&'static Setting> {
    let name = name.to_lowercase().replace('-', "_");
    let flat = |key: &str| key.replace('.', "_");
    let same = |setting: &&Setting| flat(setting.key) == flat(&name);
    if let Some(setting) = SETTINGS.iter().find(same) {
        return vec![setting];
    }
    let without_section = |setting: &&Setting| {
        let key = setting.key.split_once('.').map(|(_, key)| key);
        key == Some(name.as_str())
    };
    let named: Vec<_> = SETTINGS.iter().filter(without_section).collect();
    // The token of the upstream comes first: it is the only setting that everybody needs.
    if let [setting, ..] = *named
        && setting.key.starts_with("upstream.")
    {
        return vec![setting];
    }
    if !named.is_empty() {
        return named;
    }
    most_like(&name, SETTINGS.iter(), |setting| setting.key)
        .into_iter()
        .collect()
}

/// The section of settings that `name` may stand for.
pub(super) fn nearest_section(name: &str) -> Option<&'static str> {
    let sections = SETTINGS
        .iter()
        .filter_map(|setting| setting.key.split_once('.'));
    most_like(name, sections.map(|(section, _)| section), |section| {
        section
    })
}

fn most_like<T: Copy>(
    name: &str,
    candidates: impl Iterator<Item = T>,
    text: impl Fn(T) -> &'static str,
) -> Option<T> {
    candidates
        .map(|candidate| (strsim::jaro_winkler(text(candidate), name), candidate))
        .filter(|(likeness, _)| *likeness > LIKENESS_MIN)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_recognised() {
        for (name, meant) in [
            ("listne", vec!["listen"]),
            ("UPSTREAM_TOKEN", vec!["upstream.token"]),
            ("token-file", vec!["upstream.token_file"]),
            ("token", vec!["upstream.token"]),
            ("tokens-file", vec!["auth.tokens_file"]),
            ("leases.job-ttl", vec!["leases.job_ttl"]),
            ("wait", vec!["selection.wait", "forward.wait"]),
            ("upstraem.token", vec!["upstream.token"]),
            ("nothing-like-it", vec![]),
        ] {
            let found: Vec<_> = nearest(name).iter().map(|it| it.key).collect();
            assert_eq!(found, meant, "{name}");
        }
        assert_eq!(nearest_section("upstraem"), Some("upstream"));
        assert_eq!(nearest_section("xyz"), None);
    }
}
