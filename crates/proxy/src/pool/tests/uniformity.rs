//! The choice is uniform over the eligible accounts, for any set of full or excluded accounts.

use std::collections::HashMap;

use super::*;

const DRAWS: usize = 100_000;

/// Whether counts agree with a uniform distribution at p > 0.001.
///
/// Pearson's statistic against the 99.9 % quantile of the chi-square distribution, which Wilson
/// and Hilferty (1931) approximate by the cube of a normal one; z(0.999) = 3.0902.
fn is_uniform(counts: &[usize]) -> bool {
    let expected = DRAWS as f64 / counts.len() as f64;
    let statistic: f64 = counts
        .iter()
        .map(|count| (*count as f64 - expected).powi(2) / expected)
        .sum();
    let freedom = (counts.len() - 1) as f64;
    let spread = 2.0 / (9.0 * freedom);
    statistic < freedom * (1.0 - spread + 3.0902 * spread.sqrt()).powi(3)
}

/// How often each account was drawn. Each has one slot, and `full_count` of them are full.
fn draw_counts(accounts_count: usize, full_count: usize, exclude: &[&str]) -> Vec<usize> {
    let names: Vec<_> = (0..accounts_count).map(|n| format!("{n}@x")).collect();
    let accounts: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let mut bench = Bench::new(&accounts);
    for _ in 0..full_count {
        bench.pick().unwrap();
    }
    let ask = bench.ask(None, exclude);
    let mut counts: HashMap<_, usize> = HashMap::new();
    for _ in 0..DRAWS {
        let lease = bench.pool.pick(&ask, START, &mut bench.rng).unwrap();
        *counts.entry(lease.email.to_string()).or_default() += 1;
        bench.release(&lease);
    }
    counts.into_values().collect()
}

#[test]
fn draws_are_uniform_at_every_occupancy() {
    for (full_count, eligible_count) in [(0, 1000), (500, 500), (990, 10)] {
        let counts = draw_counts(1000, full_count, &[]);
        assert_eq!(
            counts.len(),
            eligible_count,
            "every eligible account is drawn"
        );
        assert!(is_uniform(&counts), "{full_count} of 1000 full: {counts:?}");
    }
}

#[test]
fn draws_are_uniform_among_what_is_not_excluded() {
    let names: Vec<_> = (0..195).map(|n| format!("{n}@x")).collect();
    let exclude: Vec<_> = names.iter().map(String::as_str).collect();
    // The pool avoids a few accounts by drawing again, and many by walking the list.
    for excluded_count in [10, 195] {
        let counts = draw_counts(200, 0, &exclude[..excluded_count]);
        assert_eq!(counts.len(), 200 - excluded_count);
        assert!(is_uniform(&counts), "{excluded_count} excluded: {counts:?}");
    }
}

#[test]
fn the_only_free_slot_is_always_found() {
    assert_eq!(draw_counts(1000, 999, &[]), [DRAWS]);
}

#[test]
fn the_measure_can_fail() {
    assert!(is_uniform(&[DRAWS / 10; 10]));
    let mut skewed = [DRAWS / 10; 10];
    skewed[0] += 500;
    skewed[1] -= 500;
    assert!(!is_uniform(&skewed));
}
