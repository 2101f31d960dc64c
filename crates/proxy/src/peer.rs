//! The client of one call, as far as its connection shows it.

mod socket;

use std::{net::IpAddr, time::Duration};

use tokio::time;

pub(crate) use socket::Peer;
use socket::WeakPeer;

/// How long after its answer was written a client may still reset the connection: then the answer did not
/// reach it.
const RESET_MAX: Duration = Duration::from_secs(1);

/// The client of a call. It keeps the connection's socket open.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    peer: Peer,
}

/// A client whose connection may have ended.
#[derive(Clone, Debug)]
pub(crate) struct WeakClient(WeakPeer);

impl Client {
    pub(crate) fn new(peer: Peer) -> Self {
        Self { peer }
    }

    #[cfg(test)]
    pub(crate) fn over(stream: tokio::net::TcpStream) -> Self {
        Self::new(Peer::new(stream))
    }

    /// The address that it calls from, if the system knows it.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.peer.ip()
    }

    /// Whether it has closed its sending side, or the connection is broken. It asks the system.
    pub(crate) fn is_gone(&self) -> bool {
        self.peer.is_closed()
    }

    /// Whether the connection is broken. It asks the system.
    pub(crate) fn is_reset(&self) -> bool {
        self.peer.is_reset()
    }

    /// From now on the call is answered even if the client closes its sending side, or no longer so.
    pub(crate) fn bind(&self, is_bound: bool) {
        self.peer.bind(is_bound);
    }

    pub(crate) fn downgrade(&self) -> WeakClient {
        WeakClient(self.peer.downgrade())
    }

    /// Waits until the client cannot want the answer any more. Cancel-safe.
    pub(crate) async fn left(&self) {
        self.peer.hung_up().await;
    }

    /// Waits until it is known whether what was written has reached the client. False if the connection broke.
    pub(crate) async fn has_received(&self) -> bool {
        loop {
            time::sleep(RESET_MAX).await;
            if self.is_reset() {
                return false;
            }
            // A slow reader: the server gives up on one that stands still.
            if !self.peer.is_write_blocked() {
                return true;
            }
        }
    }
}

impl WeakClient {
    /// Whether its connection is broken or has ended. It asks the system.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.0.upgrade().is_none_or(|peer| peer.is_reset())
    }

    /// Whether it has closed its sending side, or its connection has ended. It asks the system.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.upgrade().is_none_or(|peer| peer.is_closed())
    }
}
