//! What a client of a running sidecar reads.

use super::*;

#[test]
fn a_client_cares_only_for_what_it_reads() {
    let client = |args: &[&str], env: &[(&str, &str)], purpose| {
        let matches = parsed(args);
        let (_, flags) = cli::task(&matches);
        ClientConfig::load(flags, owned(env), None, purpose).map_err(|errors| errors.to_string())
    };
    // None of these would do for a sidecar.
    let wrong = [
        ("KLB_LEASES__TTL", "soon"),
        ("KLB_LISTNE", "x"),
        ("KLB_AUTH__ALLOWED_HOSTS", "[a"),
    ];
    let open = [
        "healthcheck",
        "--listen",
        "0.0.0.0:9",
        "--metrics.listen",
        "0.0.0.0:10",
    ];
    let probe = client(&open, &wrong, Purpose::Probe).unwrap();
    assert_eq!(probe.url.to_string(), "http://127.0.0.1:10");
    let api = client(&["accounts"], &wrong, Purpose::Api).unwrap();
    assert_eq!(
        (api.url.to_string().as_str(), api.token.is_some()),
        ("http://127.0.0.1:8080", false)
    );

    let holder = file("studio  a-long-client-token\nanother-client-token\n");
    let path = holder.path().to_str().unwrap();
    let flags = ["accounts", "--url", "http://there:1", "--token-file", path];
    // What is not needed is not read.
    let env = [
        ("KLB_LISTEN", "nowhere"),
        ("KLB_AUTH__TOKENS_FILE", "/nowhere"),
    ];
    let asked = client(&flags, &env, Purpose::Api).unwrap();
    assert_eq!(asked.url.to_string(), "http://there:1");
    assert_eq!(asked.token.unwrap().expose_secret(), "a-long-client-token");

    for (args, said) in [
        (
            &["accounts"] as &[&str],
            "KLB_LISTEN: expected an IP address",
        ),
        (
            &["accounts", "--url", "x"],
            "--url: expected the address of a sidecar",
        ),
        (
            &["accounts", "--url", "http://x", "--token-file", "/nowhere"],
            "--token-file: the file /nowhere cannot be read",
        ),
    ] {
        let errors = client(args, &[("KLB_LISTEN", "nowhere")], Purpose::Api).unwrap_err();
        assert!(errors.starts_with(said), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}
