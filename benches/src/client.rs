//! A keep-alive connection that does as little as a client can: it writes prepared bytes, and reads status and body
//! of the answer.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use crate::wire::{measure, number};

/// Room for an answer at first: more than that to a pick or a read.
const ANSWER_BYTES: usize = 8 * 1024;
/// No answer takes longer: a server that hangs ends the run.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
const STATUS_AT: usize = "HTTP/1.1 ".len();

/// A connection with at most one call under way.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
    /// The lengths of head and body, once they are known.
    lengths: Option<(usize, usize)>,
}

/// One answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) status: usize,
    /// Head and body.
    pub(crate) raw: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl Answer<'_> {
    /// An error unless the call succeeded.
    pub(crate) fn check(self) -> io::Result<Self> {
        if matches!(self.status, 200 | 204) {
            Ok(self)
        } else {
            Err(self.unexpected())
        }
    }

    pub(crate) fn unexpected(&self) -> io::Error {
        let raw = String::from_utf8_lossy(self.raw);
        io::Error::other(format!("unexpected answer: {raw}"))
    }
}

impl Connection {
    pub(crate) fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
        Ok(Self {
            stream,
            buffer: vec![0; ANSWER_BYTES],
            filled: 0,
            lengths: None,
        })
    }

    /// Sends `request`, and forgets the last answer.
    pub(crate) fn send(&mut self, request: &[u8]) -> io::Result<()> {
        (self.filled, self.lengths) = (0, None);
        self.stream.write_all(request)
    }

    /// Reads once, which does not block if the connection is ready to be read. True if the answer is whole.
    pub(crate) fn advance(&mut self) -> io::Result<bool> {
        if self.filled == self.buffer.len() {
            self.buffer.resize(2 * self.filled, 0);
        }
        let read = self.stream.read(&mut self.buffer[self.filled..])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.filled += read;
        if self.lengths.is_none() {
            self.lengths = measure(&self.buffer[..self.filled])?;
        }
        // One call at a time: there is nothing behind the answer.
        Ok(self
            .lengths
            .is_some_and(|(head, body)| self.filled >= head + body))
    }

    /// The answer that [`Self::advance`] has read.
    pub(crate) fn answer(&self) -> io::Result<Answer<'_>> {
        let raw = &self.buffer[..self.filled];
        let (head_bytes, _) = self.lengths.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Answer {
            status: number(&raw[STATUS_AT..])?,
            raw,
            body: &raw[head_bytes..],
        })
    }

    /// Waits for the answer.
    pub(crate) fn wait(&mut self) -> io::Result<Answer<'_>> {
        while !self.advance()? {}
        self.answer()
    }

    /// Sends `request` and waits for the answer.
    pub(crate) fn call(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        self.send(request)?;
        self.wait()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The bytes of a request without a body.
pub(crate) fn request(line: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}
