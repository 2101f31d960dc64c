//! Requests and answers as bytes on the wire.

/// A request or an answer, as it was read from the wire.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) first: String,
    /// Names in lower case, and values with each byte as one character.
    pub(super) lines: Vec<(String, String)>,
    /// The body without its chunks.
    pub(super) content: Vec<u8>,
    pub(super) trailers: Vec<(String, String)>,
}

impl Message {
    /// All values of a name, in order.
    pub(super) fn values(&self, name: &str) -> Vec<&str> {
        let lines = self.lines.iter().filter(|(it, _)| it == name);
        lines.map(|(_, value)| value.as_str()).collect()
    }

    /// Whether a name has this value, and no other.
    pub(super) fn is(&self, name: &str, value: &str) -> bool {
        self.values(name) == [value]
    }

    pub(super) fn has(&self, name: &str) -> bool {
        !self.values(name).is_empty()
    }

    /// All names in alphabetical order.
    pub(super) fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.lines.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// The status of an answer.
    #[track_caller]
    pub(super) fn status(&self) -> u16 {
        let status = self.first.split(' ').nth(1).unwrap();
        status.parse().unwrap()
    }

    /// Method and target of a request.
    #[track_caller]
    pub(super) fn asks(&self) -> (&str, &str) {
        let line = self.first.strip_suffix(" HTTP/1.1").unwrap();
        line.split_once(' ').unwrap()
    }

    /// Checks that this is one of our own errors.
    #[track_caller]
    pub(super) fn assert_refused(&self, status: u16, reason: &str) {
        assert_eq!(self.status(), status, "{self:?}");
        let body: serde_json::Value = serde_json::from_slice(&self.content).unwrap();
        assert_eq!(body["reason"], reason, "{self:?}");
        assert!(self.has("proxy-status"), "{self:?}");
    }
}

pub(super) fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap();
    (name.to_ascii_lowercase(), value.trim().to_owned())
}

/// A request of a client on this machine: `first` without its version, and lines without `Host`.
pub(super) fn request(first: &str, lines: &[&str], body: impl AsRef<[u8]>) -> Vec<u8> {
    let first = format!("{first} HTTP/1.1\r\nhost: localhost");
    message(&first, lines, body.as_ref())
}

/// An answer; `status` with its reason.
pub(super) fn answer(status: &str, lines: &[&str], body: impl AsRef<[u8]>) -> Vec<u8> {
    message(&format!("HTTP/1.1 {status}"), lines, body.as_ref())
}

/// The answer to a call whose answer does not matter.
pub(super) fn fine() -> Vec<u8> {
    answer("200 OK", &["content-length: 2"], "{}")
}

fn message(first: &str, lines: &[&str], body: &[u8]) -> Vec<u8> {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    [format!("{first}\r\n{lines}\r\n").as_bytes(), body].concat()
}

/// A body in chunks, with the lines that follow them.
pub(super) fn chunked(chunks: &[&str], trailers: &[&str]) -> Vec<u8> {
    let chunks = chunks
        .iter()
        .map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len()));
    let trailers = trailers.iter().map(|line| format!("{line}\r\n"));
    let end = ["0\r\n".to_owned()].into_iter().chain(trailers);
    let body: String = chunks.chain(end).collect();
    (body + "\r\n").into_bytes()
}
