//! A keep-alive connection that does as little as a client can: it writes a prepared request and
//! reads the status, the length and the lease id of the answer.

use std::{
    io::{self, Write},
    net::SocketAddr,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// More than any answer to a pick or a release.
const ANSWER_BYTES_MAX: usize = 8 * 1024;
const HEAD_END: &[u8] = b"\r\n\r\n";
const LENGTH_FIELD: &[u8] = b"content-length: ";
/// The bytes before the lease id in the answer to a pick.
const LEASE_ID_FIELD: &[u8] = br#"{"leaseId":""#;
const RELEASE_LINE: &[u8] = b"DELETE /leases/";

/// A lease id as it stands in an answer.
pub(crate) type LeaseId = [u8; 32];

/// A connection with at most one call under way.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    pick: Vec<u8>,
    release: Vec<u8>,
    buffer: Box<[u8; ANSWER_BYTES_MAX]>,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    /// Head and body.
    pub(crate) raw: &'a [u8],
    body: &'a [u8],
}

impl Answer<'_> {
    pub(crate) fn lease_id(&self) -> io::Result<LeaseId> {
        let id = self
            .body
            .strip_prefix(LEASE_ID_FIELD)
            .and_then(|rest| rest.first_chunk());
        id.copied().ok_or_else(|| self.unexpected())
    }

    /// An error unless the call succeeded.
    pub(crate) fn check(self) -> io::Result<Self> {
        if matches!(self.status, 200 | 204) {
            Ok(self)
        } else {
            Err(self.unexpected())
        }
    }

    fn unexpected(&self) -> io::Error {
        let raw = String::from_utf8_lossy(self.raw);
        io::Error::other(format!("unexpected answer: {raw}"))
    }
}

impl Connection {
    pub(crate) async fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let pick = format!("GET /pick HTTP/1.1\r\nHost: {addr}\r\n\r\n").into_bytes();
        let mut release = RELEASE_LINE.to_vec();
        release.extend_from_slice(&[b'0'; size_of::<LeaseId>()]);
        write!(release, " HTTP/1.1\r\nHost: {addr}\r\n\r\n")?;
        Ok(Self {
            stream,
            pick,
            release,
            buffer: Box::new([0; ANSWER_BYTES_MAX]),
        })
    }

    pub(crate) async fn pick(&mut self) -> io::Result<Answer<'_>> {
        self.stream.write_all(&self.pick).await?;
        self.answer().await
    }

    pub(crate) async fn release(&mut self, id: &LeaseId) -> io::Result<Answer<'_>> {
        self.release[RELEASE_LINE.len()..][..id.len()].copy_from_slice(id);
        self.stream.write_all(&self.release).await?;
        self.answer().await
    }

    async fn answer(&mut self) -> io::Result<Answer<'_>> {
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += read;
            if let Some((head_bytes, body_bytes)) = measure(&self.buffer[..filled])?
                && filled >= head_bytes + body_bytes
            {
                // One call at a time: there is nothing behind the answer.
                let raw = &self.buffer[..filled];
                return Ok(Answer {
                    status: number(&raw["HTTP/1.1 ".len()..])?,
                    raw,
                    body: &raw[head_bytes..],
                });
            }
        }
    }
}

/// The lengths of head and body, once the head is whole.
fn measure(raw: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let Some(head_end) = find(raw, HEAD_END) else {
        return Ok(None);
    };
    let body_bytes = match find(&raw[..head_end], LENGTH_FIELD) {
        Some(at) => usize::from(number(&raw[at + LENGTH_FIELD.len()..])?),
        None => 0,
    };
    Ok(Some((head_end + HEAD_END.len(), body_bytes)))
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// The number `text` begins with.
fn number(text: &[u8]) -> io::Result<u16> {
    let mut digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    let number = digits.try_fold(0_u16, |number, digit| {
        number.checked_mul(10)?.checked_add(u16::from(digit - b'0'))
    });
    number.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_measured_once_its_head_is_whole() {
        let raw = b"HTTP/1.1 200 OK\r\ncontent-length: 236\r\ndate: now\r\n\r\n{";
        assert_eq!(measure(&raw[..raw.len() - 2]).unwrap(), None);
        assert_eq!(measure(raw).unwrap(), Some((raw.len() - 1, 236)));
    }

    #[test]
    fn an_answer_without_a_length_has_no_body() {
        let raw = b"HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(measure(raw).unwrap(), Some((raw.len(), 0)));
    }

    #[test]
    fn a_number_too_large_is_refused() {
        assert!(number(b"65536").is_err());
        assert_eq!(number(b"204 No").unwrap(), 204);
    }
}
