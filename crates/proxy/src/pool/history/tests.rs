//! Tests of the pure rules. `pool/tests/resolutions.rs` tests how they are used.

use super::*;

#[test]
fn a_digest_ignores_the_blanks_around_a_text() {
    assert_eq!(Digest::of(" a boat\n"), Digest::of("a boat"));
    assert_ne!(Digest::of("a boat"), Digest::of("a  boat"));
}
