//! Tests of the pure rules. `pool/tests/resolutions.rs` tests how they are used.

use super::*;

#[test]
fn a_digest_ignores_the_blanks_around_a_text() {
    assert_eq!(Digest::of(" a boat\n"), Digest::of("a boat"));
    assert_ne!(Digest::of("a boat"), Digest::of("a  boat"));
}

#[test]
fn identities_are_stored_as_earlier_versions_stored_them() {
    use crate::pool::{Claim, Key, Kind};
    use serde_json::{from_str, to_string};

    let body = Body {
        operation: "/v".into(),
        fingerprint: Fingerprint::of(["a"]),
        prompt: Some(Digest::of("a boat")),
    };
    // printf '\1\0\0\0\0\0\0\0a' | sha256sum; printf 'a boat' | sha256sum
    let stored = r#"{"operation":"/v","fingerprint":"ae6121c88ba555f64c3d812123eb799d128015541f850c5e9bf1d54c08ad8481","prompt":"1cb78dba07d74a7bd0991ee37f386d08"}"#;
    assert_eq!(to_string(&body).unwrap(), stored);
    assert_eq!(from_str::<Body>(stored).unwrap(), body);
    let of_a_later_version = stored.replace("{", r#"{"other":[1],"#);
    assert_eq!(from_str::<Body>(&of_a_later_version).unwrap(), body);
    let claim = Claim {
        key: Key::new("name:a POST /v k"),
        fingerprint: body.fingerprint,
    };
    let stored = r#"{"key":"name:a POST /v k","fingerprint":"ae6121c88ba555f64c3d812123eb799d128015541f850c5e9bf1d54c08ad8481"}"#;
    assert_eq!(to_string(&claim).unwrap(), stored);
    assert_eq!(from_str::<Claim>(stored).unwrap(), claim);
    assert_eq!(
        to_string(&[Kind::Pick, Kind::Forward]).unwrap(),
        r#"["pick","forward"]"#
    );
    let id = r#""000000000000000000000000000000ff""#;
    assert_eq!(to_string(&from_str::<LeaseId>(id).unwrap()).unwrap(), id);
    let task_id = r#""-987654321987654321""#;
    assert_eq!(
        to_string(&from_str::<TaskId>(task_id).unwrap()).unwrap(),
        task_id
    );
    assert!(from_str::<LeaseId>(r#""ff""#).is_err());
    assert!(from_str::<TaskId>(r#""007""#).is_err());
    assert!(from_str::<Digest>(r#""PPP""#).is_err());
}
