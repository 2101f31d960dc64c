//! What the upstream knows, and its answers.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
};

use crate::wire::text_field;

/// The length of the answer to a read, in bytes.
const READ_BYTES: usize = 1024;
/// As long as those of the real one.
const FIRST_TASK: u64 = 700_000_000_000_000;

/// Accounts and running jobs.
#[derive(Debug)]
pub(crate) struct Book {
    accounts: Vec<String>,
    slots: u32,
    /// The whole answer to `GET /accounts`.
    list: String,
    last_task: u64,
    jobs: BTreeMap<u64, Job>,
}

#[derive(Debug)]
struct Job {
    email: String,
    reply_ref: Option<String>,
}

impl Book {
    pub(crate) fn new(accounts_count: u32, slots: u32) -> Self {
        let emails = (0..accounts_count).map(|idx| format!("account-{idx:06}@example.com"));
        let accounts: Vec<_> = emails.collect();
        let rows = accounts
            .iter()
            .map(|email| format!(r#""{email}":{{"email":"{email}","maxJobs":{slots}}}"#));
        let list = format!("{{{}}}", rows.collect::<Vec<_>>().join(","));
        Self {
            accounts,
            slots,
            list,
            last_task: FIRST_TASK,
            jobs: BTreeMap::new(),
        }
    }

    /// Appends the answer to a request to `out`.
    pub(crate) fn answer(&mut self, head: &[u8], body: &[u8], out: &mut Vec<u8>) {
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = str::from_utf8(line).unwrap_or_default();
        let mut words = line.split(' ');
        let method = words.next().unwrap_or_default();
        let target = words.next().unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        let path = path.strip_prefix("/v1/kling").unwrap_or(path);
        if let Some(task) = path.strip_prefix("/scheduler/")
            && method == "DELETE"
        {
            let job = task.parse().ok().and_then(|task| self.jobs.remove(&task));
            out.extend_from_slice(match job {
                Some(_) => b"HTTP/1.1 204 No Content\r\n\r\n",
                None => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            });
            return;
        }
        match path {
            "/accounts" => write_json(out, &self.list),
            "/scheduler/available" => write_json(out, &self.scheduler()),
            _ if method == "POST" => {
                let answer = self.start(body);
                write_json(out, &answer);
            }
            _ => write_json(out, &read(path.strip_prefix("/tasks/").unwrap_or("0"))),
        }
    }

    /// Starts a job on the account that `body` names.
    fn start(&mut self, body: &[u8]) -> String {
        let text = |name| {
            let text = text_field(body, name)?;
            Some(String::from_utf8_lossy(text).into_owned())
        };
        self.last_task += 1;
        let task = self.last_task;
        // A proxy that knows no accounts names none.
        let email = text("email").unwrap_or_else(|| self.accounts[0].clone());
        let reply_ref = text("replyRef");
        self.jobs.insert(task, Job { email, reply_ref });
        format!(
            r#"{{"task":{{"id":{task},"userId":1000001,"type":"m2v_txt2video_hq","scene":"NORMAL_CREATION","status":5,"status_name":"submitted","status_final":false,"taskInfo":{{"type":"m2v_txt2video_hq","inputs":[],"arguments":[{{"name":"duration","value":"5"}}],"extraArgs":{{}},"callbackPayloads":[],"scene":"NORMAL_CREATION"}},"favored":false,"deleted":false,"viewed":false,"createTime":1760000000000,"updateTime":1760000000000,"viewTime":0}}}}"#
        )
    }

    /// The running jobs, and the free slots of each account.
    fn scheduler(&self) -> String {
        let mut executing: HashMap<&str, u32> = HashMap::new();
        let mut out = r#"{"executing":["#.to_owned();
        for (task, Job { email, reply_ref }) in &self.jobs {
            *executing.entry(email).or_default() += 1;
            let mark = reply_ref
                .as_ref()
                .map(|mark| format!(r#","replyRef":"{mark}""#));
            let mark = mark.unwrap_or_default();
            let row = format!(
                r#"{{"id":{task},"email":"{email}","started":"2026-11-27T12:13:14.000Z","elapsed":"00:01"{mark}}},"#
            );
            out.push_str(&row);
        }
        if out.ends_with(',') {
            out.pop();
        }
        out.push_str(r#"],"available":["#);
        for email in &self.accounts {
            let running = executing.get(email.as_str()).copied().unwrap_or_default();
            let (slots, free) = (self.slots, self.slots.saturating_sub(running));
            // Writing to a string does not fail.
            let _written = write!(
                out,
                r#"{{"email":"{email}","maxJobs":{slots},"executing":{running},"available":{free}}},"#
            );
        }
        if out.ends_with(',') {
            out.pop();
        }
        out.push_str("]}");
        out
    }
}

/// A task that is under way, in 1 KiB.
fn read(task: &str) -> String {
    let start = format!(
        r#"{{"task":{{"id":{task}}},"status":10,"status_name":"processing","status_final":false,"works":[],"message":""#
    );
    const END: &str = r#""}"#;
    let padding = READ_BYTES.saturating_sub(start.len() + END.len());
    format!("{start}{:x<padding$}{END}", "")
}

fn write_json(out: &mut Vec<u8>, body: &str) {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ";
    out.extend_from_slice(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(book: &mut Book, line: &str, body: &str) -> String {
        let mut out = Vec::new();
        let head = format!("{line} HTTP/1.1\r\n\r\n");
        book.answer(head.as_bytes(), body.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_started_job_is_listed_with_its_mark_until_it_is_untracked() {
        let mut book = Book::new(2, 5);
        let body = r#"{"email":"account-000001@example.com","replyRef":"klb-1"}"#;
        let started = ask(&mut book, "POST /v1/kling/videos/text2video", body);
        assert!(started.contains(r#""id":700000000000001"#));
        let list = ask(&mut book, "GET /v1/kling/scheduler/available", "");
        assert!(list.contains(r#""id":700000000000001,"email":"account-000001@example.com""#));
        assert!(list.contains(r#""replyRef":"klb-1""#));
        assert!(list.contains(r#""executing":1,"available":4"#));
        let untrack = "DELETE /v1/kling/scheduler/700000000000001?email=x";
        assert!(ask(&mut book, untrack, "").starts_with("HTTP/1.1 204"));
        assert!(ask(&mut book, untrack, "").starts_with("HTTP/1.1 404"));
        let list = ask(&mut book, "GET /v1/kling/scheduler/available", "");
        assert!(list.contains(r#"{"executing":[],"available":[{"#));
    }

    #[test]
    fn a_read_has_1_kib_and_the_id_of_its_task() {
        let answer = ask(&mut Book::new(1, 1), "GET /v1/kling/tasks/71?email=a@x", "");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body.len(), READ_BYTES);
        assert!(body.starts_with(r#"{"task":{"id":71}"#));
    }
}
