//! What is left to the pure rules; how they are used is tried in `pool/tests/resolutions.rs`.

use super::*;

#[test]
fn a_digest_ignores_the_blanks_around_a_text() {
    assert_eq!(Digest::of(" a boat\n"), Digest::of("a boat"));
    assert_ne!(Digest::of("a boat"), Digest::of("a  boat"));
}
