//! Listening sockets that a service manager passed on: systemd's socket activation, `sd_listen_fds(3)`.
//!
//! Such a socket stays open while one process ends and the next one starts: the system keeps connections waiting
//! meanwhile, and no client is refused.

use std::{env, io, net::TcpListener};

use listenfd::ListenFd;

/// The sockets that were passed to this process.
#[derive(Debug, Default)]
pub struct PassedSockets {
    /// For the API: the one named `api`, or else the first that is not named `metrics`.
    pub(crate) api: Option<TcpListener>,
    /// For the metrics listener: the one named `metrics`.
    pub(crate) metrics: Option<TcpListener>,
}

impl PassedSockets {
    /// Takes over the sockets that `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES` tell of.
    ///
    /// # Errors
    /// If one of them is no TCP socket, or has no use.
    pub fn take() -> io::Result<Self> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for idx in 0..passed.len() {
            let name = names.next().unwrap_or_default();
            if let Some(socket) = passed.take_tcp_listener(idx)? {
                // The runtime takes no other ones.
                socket.set_nonblocking(true)?;
                sockets.push((name, socket));
            }
        }
        Self::assign(sockets)
    }

    fn assign(mut named: Vec<(&str, TcpListener)>) -> io::Result<Self> {
        let mut take = |is_it: fn(&str) -> bool| {
            let idx = named.iter().position(|(name, _)| is_it(name))?;
            Some(named.remove(idx).1)
        };
        let metrics = take(|name| name == "metrics");
        let api = take(|name| name == "api").or_else(|| take(|_| true));
        match named.first() {
            None => Ok(Self { api, metrics }),
            Some((name, _)) => Err(io::Error::other(format!(
                "there is no use for the socket named {name:?}: expected one named api and one named \
                 metrics, or one without a name"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The places that sockets with these names get: for the API, and for metrics.
    fn places(names: &[&'static str]) -> Result<[Option<usize>; 2], String> {
        let bound = |_| TcpListener::bind("127.0.0.1:0").unwrap();
        let sockets: Vec<_> = (0..names.len()).map(bound).collect();
        let addrs: Vec<_> = sockets.iter().map(|it| it.local_addr().unwrap()).collect();
        let named = names.iter().copied().zip(sockets).collect();
        let place = |socket: Option<TcpListener>| {
            let addr = socket?.local_addr().unwrap();
            addrs.iter().position(|it| *it == addr)
        };
        match PassedSockets::assign(named) {
            Ok(PassedSockets { api, metrics }) => Ok([place(api), place(metrics)]),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn sockets_are_told_apart_by_their_names() {
        for (names, api, metrics) in [
            (&[][..], None, None),
            (&[""], Some(0), None),
            (&["kling-balancer.socket"], Some(0), None),
            (&["api", "metrics"], Some(0), Some(1)),
            (&["metrics", "api"], Some(1), Some(0)),
            (&["metrics"], None, Some(0)),
            (&["metrics", ""], Some(1), Some(0)),
        ] {
            assert_eq!(places(names), Ok([api, metrics]), "{names:?}");
        }
        for names in [
            &["api", "other"][..],
            &["", ""],
            &["metrics", "metrics", "api"],
        ] {
            assert!(places(names).unwrap_err().contains("no use"), "{names:?}");
        }
    }
}
