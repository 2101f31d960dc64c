//! The program as a process: it prints its URL, works, and prints its audit at the end.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, ChildStdout, Command, Stdio},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kling-sim");

/// The token of every simulator of these tests.
const TOKEN: &str = "t";

/// Killed when dropped, so that a failing test leaves no process behind.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // The process has ended already unless the test fails, and then nothing better can be done.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts the program, and reads where it listens.
fn started(flags: &[&str]) -> (Process, BufReader<ChildStdout>, String) {
    let mut command = Command::new(PROGRAM);
    let command = command
        .args(flags)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut process = Process(command.spawn().unwrap());
    let mut stdout = BufReader::new(process.0.stdout.take().unwrap());
    let mut url = String::new();
    stdout.read_line(&mut url).unwrap();
    let addr = url
        .trim()
        .strip_prefix("http://")
        .unwrap()
        .strip_suffix("/v1/kling")
        .unwrap();
    let addr = addr.to_owned();
    (process, stdout, addr)
}

/// A request with a body, whose answer ends the connection.
fn request(method_and_path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method_and_path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

fn exchange(addr: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn takes_a_job_and_prints_its_audit_when_terminated() {
    let flags = [
        "--listen=127.0.0.1:0",
        "--accounts=a@x=2,b@x=3",
        "--token=t",
        "--seed=4",
    ];
    let (mut process, mut stdout, addr) = started(&flags);

    let body = r#"{"email":"b@x","prompt":"a boat"}"#;
    let start = request("POST /v1/kling/videos/text2video", body);
    assert!(exchange(&addr, &start).starts_with("HTTP/1.1 200 "));

    let audit = "GET /_sim/audit HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = exchange(&addr, audit);
    let (_, json) = answer.split_once("\r\n\r\n").unwrap();
    let audit: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(audit["accounts"][1]["peak"], 1);
    assert_eq!(audit["submissions"][0]["body"], body);

    let pid = process.0.id().to_string();
    assert!(
        Command::new("sh")
            .args(["-c", "kill -TERM $0", &pid])
            .status()
            .unwrap()
            .success()
    );
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(process.0.wait().unwrap().code(), Some(0));
    assert!(rest.contains("curl -H 'Authorization: Bearer t'"), "{rest}");
    let row = rest.lines().find(|line| line.starts_with("b@x")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells, ["b@x", "3", "1", "1", "1", "0", "0"]);
    assert!(rest.trim_end().ends_with("submissions: 1, duplicates: 0"));
}

#[test]
fn accepts_sample_ids_tells_its_public_url_and_takes_calls_to_itself() {
    let flags = [
        "--listen=127.0.0.1:0",
        "--public-url=http://cdn.test",
        "--accounts=a@x=2",
        "--token=t",
        "--job-seconds=0..0",
        "--accept-ids",
    ];
    let (_process, _stdout, addr) = started(&flags);
    let body = r#"{"element_1":"u_123456789012345"}"#;
    let answer = exchange(&addr, &request("POST /v1/kling/videos/omni", body));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let works = exchange(&addr, &request("GET /v1/kling/tasks", ""));
    assert!(works.contains("\"http://cdn.test/results/"), "{works}");

    let fault = r#"{"effect":{"status":503}}"#;
    let answer = exchange(&addr, &request("POST /_sim/faults", fault));
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    let answer = exchange(&addr, &request("GET /v1/kling/tasks", ""));
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[test]
fn a_bad_flag_ends_it_with_what_was_expected() {
    let output = Command::new(PROGRAM)
        .args(["--accounts", "a@x"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("expected EMAIL=MAX_JOBS with 1 to 50 jobs"),
        "{stderr}"
    );
}
