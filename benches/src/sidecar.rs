//! How the sidecar is started: the released program, as a user has it, with one worker.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Fault,
    calls::pick,
    child::Server,
    client::{Connection, request},
};

/// How long a start may take: a full book is read in it.
const START_TIME_MAX: Duration = Duration::from_secs(60);
/// How often it is looked at meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_micros(200);

/// How a sidecar is run. What is not told here is a default: marks on, the job log on, rounds every 10 s.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings<'a> {
    pub(crate) program: &'a Path,
    /// The upstream.
    pub(crate) upstream: SocketAddr,
    pub(crate) workers: usize,
    /// The file of its book. `None`: in memory.
    pub(crate) state: Option<&'a Path>,
    /// Where its log goes.
    pub(crate) directory: &'a Path,
}

impl Settings<'_> {
    /// Starts a sidecar, and waits until it serves: it may not have its list yet.
    pub(crate) fn start(&self) -> Result<Server, Fault> {
        static STARTS_COUNT: AtomicU32 = AtomicU32::new(0);
        let number = STARTS_COUNT.fetch_add(1, Ordering::Relaxed);
        let log = self.directory.join(format!("sidecar-{number}.log"));
        let mut variables = vec![
            ("KLB_LISTEN", "127.0.0.1:0".to_owned()),
            ("KLB_RUNTIME__WORKERS", self.workers.to_string()),
            (
                "KLB_UPSTREAM__BASE_URL",
                format!("http://{}/v1/kling", self.upstream),
            ),
            ("KLB_UPSTREAM__TOKEN", "bench".to_owned()),
            // As good as never, or a window now and then has one.
            ("KLB_ACCOUNTS__REFRESH_INTERVAL", "1h".to_owned()),
            // Nothing ends by itself while we measure.
            ("KLB_LEASES__TTL", "1h".to_owned()),
        ];
        if let Some(path) = self.state {
            let path = path.to_str().ok_or("the path is no text")?;
            variables.push(("KLB_STATE__PATH", path.to_owned()));
        }
        let program = self.program.to_str().ok_or("the path is no text")?;
        let file = File::create(&log)?;
        Server::program(&[program.to_owned()], &variables, file, || {
            address_in(&log).map_err(|error| format!("{program}: {error}").into())
        })
    }

    /// Starts a sidecar, and waits until it grants.
    pub(crate) fn ready(&self) -> Result<Server, Fault> {
        let server = self.start()?;
        first_grant(server.addr())?;
        Ok(server)
    }
}

/// One pick and its release, once the server grants: their answers.
pub(crate) fn first_grant(addr: SocketAddr) -> Result<[Vec<u8>; 2], Fault> {
    let until = Instant::now() + START_TIME_MAX;
    let mut connection = Connection::open(addr)?;
    loop {
        let answer = connection.call(&pick())?;
        if answer.status == 200 {
            let picked = answer.raw.to_vec();
            let id =
                crate::wire::text_field(answer.body, "leaseId").ok_or("a grant without an id")?;
            let line = format!("DELETE /leases/{}", String::from_utf8_lossy(id));
            let released = connection.call(&request(&line))?.check()?;
            return Ok([picked, released.raw.to_vec()]);
        }
        if Instant::now() > until {
            return Err(answer.unexpected().into());
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

/// Waits for the line that says where the sidecar serves.
fn address_in(log: &PathBuf) -> Result<SocketAddr, Fault> {
    let until = Instant::now() + START_TIME_MAX;
    loop {
        let text = fs::read_to_string(log)?;
        if let Some(addr) = serving_at(&text) {
            return Ok(addr);
        }
        if Instant::now() > until || text.starts_with("error") {
            return Err(format!("does not serve: {text}").into());
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

/// The address in the line `serving` of a log, once the line is whole.
fn serving_at(log: &str) -> Option<SocketAddr> {
    let lines = log
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    let line = lines
        .into_iter()
        .find(|line| line.contains(" serving ") && line.contains("version="))?;
    let (_, rest) = line.split_once(" addr=")?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_that_of_the_listener_for_clients() {
        let log = "\
2026-11-27T15:00:00Z  INFO kling_balancer: serving metrics addr=127.0.0.1:1\n\
2026-11-27T15:00:00Z  INFO kling_balancer: serving version=\"0.1.0\" addr=127.0.0.1:2 upstream=http://127.0.0.1:3/v1\n";
        assert_eq!(serving_at(log), Some(([127, 0, 0, 1], 2).into()));
        assert_eq!(serving_at(&log[..log.len() - 1]), None);
    }
}
