//! Checks that the tables of the README agree with the code.

use std::collections::{BTreeMap, BTreeSet};

use accounts_fetcher::Listing;

use crate::{
    api::ROUTES,
    cli, client,
    config::{AccountLabel, SETTINGS},
    error::Error,
    exit,
    ledger::{Statistics, tests::ledger_of},
    metrics::{AccountSums, Metrics, Scrape},
};

const README: &str = include_str!("../../../README.md");

/// The rows of the tables in the section `heading`, without head and rule.
fn rows(heading: &str) -> Vec<&'static str> {
    let (_, section) = README
        .split_once(&format!("\n## {heading}\n"))
        .expect("the README has the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with('|'));
    rows.skip_while(|row| !row.starts_with("|---"))
        .skip(1)
        .collect()
}

#[track_caller]
fn assert_rows(heading: &str, expected: &[String]) {
    let (given, expected) = (rows(heading).join("\n"), expected.join("\n"));
    assert!(
        given == expected,
        "the table of {heading:?} in the README is to be\n{expected}"
    );
}

fn code(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("`{text}`")
    }
}

#[test]
fn settings() {
    let rows = SETTINGS.iter().map(|setting| {
        let (key, default) = (code(setting.key), code(setting.default));
        format!("| {key} | {default} | {} |", setting.help)
    });
    assert_rows("Settings", &rows.collect::<Vec<_>>());
}

#[tokio::test]
async fn metrics() {
    let ledger = ledger_of(1);
    let mut stats = ledger.call(Statistics).await.unwrap();
    stats.marks.push(("/videos/text2video".into(), "proven"));
    let mut accounts = AccountSums::new(AccountLabel::Alias);
    let added = ledger.each_account(|account| accounts.add(account));
    added.await.unwrap();
    let book = crate::book::BookStatus::memory();
    let scrape = Scrape {
        book: &book,
        events: ledger.events(),
        stats: &stats,
        accounts: &accounts,
        listing: &Listing::default(),
        rounds: None,
    };
    let text = Metrics::new().unwrap().render(&scrape).await.unwrap();
    let text = String::from_utf8(text).unwrap();
    let mut labels: BTreeMap<&str, &str> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_once('{').unwrap_or((line, ""));
        labels.insert(name.split(' ').next().unwrap(), rest);
    }
    let rows = text.lines().filter_map(|line| {
        let (name, help) = line.strip_prefix("# HELP ")?.split_once(' ')?;
        let samples = labels.get(name).or_else(|| {
            let count = format!("{name}_count");
            labels.get(&*count)
        });
        let names = samples
            .unwrap()
            .split(',')
            .filter_map(|pair| pair.split_once("=\""));
        let names: Vec<_> = names.map(|(name, _)| name).collect();
        let short = name.strip_prefix("kling_balancer_").unwrap();
        let shown = match &*names.join(",") {
            "" => short.to_owned(),
            names => format!("{short}{{{names}}}"),
        };
        Some(format!("| `{shown}` | {help} |"))
    });
    assert_rows("Metrics", &rows.collect::<Vec<_>>());
}

#[test]
fn reasons() {
    let mut statuses: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for error in Error::KINDS {
        let facts = error.facts();
        let status = facts.status.as_str().to_owned();
        let known = statuses.entry(facts.reason).or_default();
        if !known.contains(&status) {
            known.push(status);
        }
    }
    let expected = statuses
        .iter()
        .map(|(reason, statuses)| format!("| `{reason}` | {} |", statuses.join(", ")));
    let mut given: Vec<_> = rows("When it refuses")
        .iter()
        .map(|row| row.splitn(4, '|').take(3).collect::<Vec<_>>().join("|") + "|")
        .collect();
    given.sort_unstable();
    assert_eq!(given, expected.collect::<Vec<_>>());
}

#[test]
fn routes() {
    let given: Vec<_> = rows("Routes")
        .iter()
        .map(|row| row.split('`').nth(1).unwrap())
        .collect();
    let expected: Vec<_> = ROUTES.iter().map(|row| row.template).collect();
    assert_eq!(given, expected);
}

#[test]
fn commands() {
    let given = rows("On the terminal");
    let given = given
        .iter()
        .filter_map(|row| row.split('`').nth(1)?.split(' ').nth(1));
    let given: BTreeSet<_> = given.collect();
    let command = cli::command();
    let known = command.get_subcommands().map(|command| command.get_name());
    assert_eq!(given, known.collect());
}

#[test]
fn exit_codes() {
    let given = rows("Exit codes").into_iter();
    let given = given.filter_map(|row| row.split('|').nth(1)?.trim().parse().ok());
    assert_eq!(given.collect::<Vec<u8>>(), exit::CODES);
}

#[test]
fn the_picture_of_top() {
    let picture = format!("```text\n{}\n```", client::picture_for_the_readme());
    assert!(
        README.contains(&picture),
        "the README is to show\n{picture}"
    );
}

#[test]
fn picks_say_what_the_table_says() {
    let given = rows("Or pick and call the upstream yourself");
    let fields = given
        .iter()
        .filter_map(|row| row.split('`').nth(1)?.split_once('='));
    let fields: Vec<_> = fields.map(|(field, _)| field).collect();
    let pick = ROUTES.iter().find(|row| row.template == "/pick").unwrap();
    assert_eq!(fields, pick.query.fields());
}

/// A message names the settings to change by their keys: these settings must exist.
#[test]
fn messages_name_settings_that_exist() {
    let sections = [
        "auth",
        "forward",
        "upstream",
        "selection",
        "leases",
        "reconcile",
    ];
    for error in Error::KINDS {
        let message = Error::message(&error);
        let words = message.split(|c: char| !(c.is_ascii_alphanumeric() || "._".contains(c)));
        for word in words.map(|word| word.trim_end_matches('.')) {
            let Some((section, key)) = word.split_once('.') else {
                continue;
            };
            if sections.contains(&section) && !key.is_empty() {
                let is_known = SETTINGS.iter().any(|setting| setting.key == word);
                assert!(is_known, "{message}: {word}");
            }
        }
    }
}

#[test]
fn settings_that_are_named_exist() {
    let is_setting = |key: &str| SETTINGS.iter().any(|setting| setting.key == key);
    let is_section = |name: &str| {
        let mut keys = SETTINGS.iter().filter_map(|it| it.key.split_once('.'));
        keys.any(|(section, _)| section == name)
    };
    let code = README.split('`').skip(1).step_by(2);
    let words = code.flat_map(|code| {
        code.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || "._".contains(c)))
    });
    let named = words.filter(|word| {
        word.split_once('.')
            .is_some_and(|(section, key)| is_section(section) && !key.is_empty())
    });
    let unknown: Vec<_> = named.filter(|word| !is_setting(word)).collect();
    assert_eq!(unknown, Vec::<&str>::new());
}
