//! What a client of a running sidecar needs to know: where it is, and a token that it accepts.
//!
//! Its own flags say both. Without them it reads the sidecar's settings, and of these only the ones that it
//! needs: a client does not care whether the sidecar could start with them.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use clap::ArgMatches;
use http::Uri;
use secrecy::SecretString;

use super::{ConfigErrors, reader::ConfigReader, tokens};
use crate::cli::{TOKEN_FILE_FLAG, URL_FLAG};

/// What a client wants of the sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Its API.
    Api,
    /// To know whether it is alive or ready, which needs no token.
    Probe,
}

/// The address of a running sidecar, and the token that it asks for.
#[derive(Debug)]
pub struct ClientConfig {
    /// Where it is.
    pub url: SidecarUrl,
    /// One of the client tokens.
    pub token: Option<SecretString>,
}

/// Where a sidecar is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SidecarUrl {
    /// A name or an address; an IPv6 address is in brackets.
    host: String,
    /// The port.
    pub port: u16,
}

impl SidecarUrl {
    /// The name or the address to connect to, without brackets.
    pub fn host(&self) -> &str {
        self.host.trim_matches(['[', ']'])
    }

    /// What stands for this address in `Host`.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn read(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected the address of a sidecar, such as http://127.0.0.1:8080";
        let uri: Uri = text.parse().map_err(|_error| EXPECTED.to_owned())?;
        let is_bare = uri.query().is_none() && matches!(uri.path(), "" | "/");
        match uri.host() {
            Some(host) if uri.scheme_str() == Some("http") && is_bare => Ok(Self {
                host: host.to_owned(),
                port: uri.port_u16().unwrap_or(80),
            }),
            Some(_) | None => Err(EXPECTED.to_owned()),
        }
    }

    /// Where clients of this machine find what the sidecar carries.
    pub fn base_url(&self) -> String {
        format!("{self}/v1/kling")
    }

    /// Where a listener is called: on the loopback address, if it listens on all.
    pub fn of_listener(listen: SocketAddr) -> Self {
        let ip = match listen.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        let host = match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let port = listen.port();
        Self { host, port }
    }
}

impl fmt::Display for SidecarUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

impl ClientConfig {
    /// Reads the client's own flags, and of the settings in `flags`, `env` and `file` those that are needed
    /// besides.
    ///
    /// # Errors
    /// The [`ConfigErrors`] in what it reads. A mistake in any other setting is none.
    pub fn load(
        flags: &ArgMatches,
        env: impl Iterator<Item = (String, String)>,
        file: Option<&Path>,
        purpose: Purpose,
    ) -> Result<Self, ConfigErrors> {
        let url = flags.get_one::<String>(URL_FLAG);
        let token_file = match purpose {
            Purpose::Api => flags.get_one::<PathBuf>(TOKEN_FILE_FLAG),
            Purpose::Probe => None,
        };
        let mut reader = ConfigReader::gather(flags, env, file);
        let keys: &[&str] = match (url.is_some(), purpose, token_file.is_some()) {
            (false, Purpose::Api, false) => &["listen", "auth.tokens", "auth.tokens_file"],
            (false, Purpose::Api, true) => &["listen"],
            (false, Purpose::Probe, _) => &["listen", "metrics.listen"],
            (true, Purpose::Api, false) => &["auth.tokens", "auth.tokens_file"],
            (true, ..) => &[],
        };
        reader.errors.retain(keys);
        let url = match url {
            Some(text) => {
                let read = SidecarUrl::read(text);
                read.map_err(|problem| reader.errors.add("listen", "--url", problem))
                    .ok()
            }
            None => reader.address(purpose).map(SidecarUrl::of_listener),
        };
        let token = match (purpose, token_file) {
            (Purpose::Probe, _) => None,
            (Purpose::Api, Some(path)) => match tokens::client_tokens(path) {
                Ok(listed) => listed.into_iter().next().map(|first| first.token),
                Err(problem) => {
                    reader
                        .errors
                        .add("auth.tokens_file", "--token-file", problem);
                    None
                }
            },
            (Purpose::Api, None) => reader.first_client_token(),
        };
        match url {
            Some(url) if reader.errors.is_empty() => Ok(Self { url, token }),
            Some(_) | None => Err(reader.errors),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_the_address_of_a_sidecar() {
        for (text, shown, host) in [
            (
                "http://127.0.0.1:8080",
                "http://127.0.0.1:8080",
                "127.0.0.1",
            ),
            ("http://sidecar/", "http://sidecar:80", "sidecar"),
            ("http://[::1]:9", "http://[::1]:9", "::1"),
        ] {
            let url = SidecarUrl::read(text).unwrap();
            assert_eq!((url.to_string().as_str(), url.host()), (shown, host));
        }
        for wrong in [
            "https://x",
            "127.0.0.1:8080",
            "http://x/v1/kling",
            "http://x/?a",
            "x",
            "",
        ] {
            assert!(SidecarUrl::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_listener_on_all_addresses_is_called_on_loopback() {
        for (listen, url) in [
            ("0.0.0.0:8080", "http://127.0.0.1:8080"),
            ("[::]:8080", "http://[::1]:8080"),
            ("10.1.2.3:80", "http://10.1.2.3:80"),
        ] {
            let called = SidecarUrl::of_listener(listen.parse().unwrap());
            assert_eq!(called.to_string(), url);
        }
    }
}
