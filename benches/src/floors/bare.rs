//! A hyper server that gives the sidecar's own answers, byte for byte.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};

use crate::{Fault, child::Server};

/// An answer as it came over the wire, to be given again.
#[derive(Clone, Debug)]
struct Canned {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// The arguments of the process.
#[derive(Debug, clap::Args)]
pub(crate) struct Bare {
    /// The answer to a pick
    #[arg(long)]
    pick: String,
    /// The answer to a DELETE
    #[arg(long)]
    release: String,
    #[arg(long)]
    workers: usize,
}

/// Starts it with the answers to a pick and its release.
pub(crate) fn start(answers: &[Vec<u8>; 2], workers: usize) -> Result<Server, Fault> {
    let [pick, release] = answers;
    let (pick, release) = (str::from_utf8(pick)?, str::from_utf8(release)?);
    let workers = workers.to_string();
    let args = ["--pick", pick, "--release", release, "--workers", &workers];
    Server::own("serve-bare", &args)
}

/// Runs it until the input ends.
pub(crate) fn run(bare: &Bare) -> Result<(), Fault> {
    let answers = [
        Canned::new(bare.pick.as_bytes())?,
        Canned::new(bare.release.as_bytes())?,
    ];
    let answers: &'static [Canned; 2] = Box::leak(Box::new(answers));
    let answer = service_fn(move |request: Request<Incoming>| async move {
        let [pick, release] = answers;
        let canned = if request.method() == Method::DELETE {
            release
        } else {
            pick
        };
        Ok::<_, Infallible>(canned.answer())
    });
    super::serve(bare.workers, answer)
}

impl Canned {
    /// Reads an HTTP/1.1 answer. The date is left to the server that gives it again.
    fn new(raw: &[u8]) -> Result<Self, Fault> {
        let raw = str::from_utf8(raw)?;
        let (head, body) = raw.split_once("\r\n\r\n").ok_or("the head has no end")?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let status = status.ok_or("the head has no status")?.parse()?;
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").ok_or("a header has no value")?;
            headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        headers.remove(header::DATE);
        let body = Bytes::from(body.to_owned());
        Ok(Self {
            status,
            headers,
            body,
        })
    }

    fn answer(&self) -> Response<Full<Bytes>> {
        let mut answer = Response::new(Full::new(self.body.clone()));
        *answer.status_mut() = self.status;
        answer.headers_mut().clone_from(&self.headers);
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canned_answer_is_the_one_it_was_read_from_but_for_the_date() {
        let raw = b"HTTP/1.1 200 OK\r\nx-a: 1\r\ncontent-length: 2\r\ndate: now\r\n\r\nhi";
        let canned = Canned::new(raw).unwrap();
        assert_eq!(canned.status, StatusCode::OK);
        assert_eq!(canned.headers["x-a"], "1");
        assert_eq!(canned.headers.len(), 2);
        assert_eq!(&canned.body[..], b"hi");
    }
}
