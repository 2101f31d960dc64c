//! `/openapi.json` and what is answered agree, both ways.

mod facts;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use harness::{Answer, Document, Running, eventually};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use kling_sim::Fault;
use serde_json::{Value, json};
use tokio::net::TcpStream;

const TOKEN: &str = "Bearer a-client-token-1";
const READ_TOKEN: &str = "Bearer a-token-to-look-1";
const JOB: &str = "/v1/kling/videos/text2video";
const PROMPT: &str = r#"{"prompt":"a boat"}"#;
const JSON: (&str, &str) = ("content-type", "application/json");

/// Those that no answer of the test below has: only carried calls have candidates (`carry/keys.rs`).
const UNSEEN: [&str; 1] = ["Error.tasks"];
/// What requests have.
const OF_REQUESTS: [&str; 2] = ["PickRequest", "LeaseUpdate"];

/// A sidecar with client tokens, held against its own document.
struct Documented {
    running: Arc<Running>,
    document: Document,
    schemas: Vec<String>,
}

impl Documented {
    async fn start() -> Self {
        let watchers = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(watchers.path(), READ_TOKEN.replace("Bearer", "watcher")).unwrap();
        let clients = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(clients.path(), TOKEN.replace("Bearer", "studio")).unwrap();
        let settings = [
            ("AUTH__TOKENS_FILE", clients.path().to_str().unwrap()),
            ("AUTH__READ_TOKENS_FILE", watchers.path().to_str().unwrap()),
        ];
        let running = Running::configured(&[("a@x", 4), ("b@x", 1)], &settings).await;
        let headers = [("authorization", READ_TOKEN)];
        let told = running
            .send(Method::GET, "/openapi.json", &headers, "")
            .await;
        let schemas = told.json()["components"]["schemas"].clone();
        let schemas = schemas.as_object().unwrap().keys().cloned().collect();
        let mut document = Document::new(told.json());
        document.check_answer("GET /openapi.json", &told);
        Self {
            running: Arc::new(running),
            document,
            schemas,
        }
    }

    /// Makes a call of `operation`, such as `GET /leases/{id}`, at `path`, and checks its answer.
    async fn call(&mut self, operation: &str, path: &str, body: &str, status: u16) -> Answer {
        let headers = [JSON, ("authorization", TOKEN)];
        self.send(operation, path, &headers, body, status).await
    }

    async fn send(
        &mut self,
        operation: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
        status: u16,
    ) -> Answer {
        let method: Method = operation.split(' ').next().unwrap().parse().unwrap();
        let answer = self.running.send(method, path, headers, body).await;
        assert_eq!(answer.status, status, "{operation}: {answer:?}");
        self.document.check_answer(operation, &answer);
        answer
    }

    /// A job that one account refuses and the other one takes.
    async fn job(&mut self) {
        let full = Fault::status(429).on_job_starts().times(1);
        self.running.sim.fault(full);
        let headers = [JSON, ("authorization", TOKEN)];
        let started = self.running.send(Method::POST, JOB, &headers, PROMPT).await;
        assert_eq!(started.status, StatusCode::OK, "{started:?}");
    }

    async fn picks(&mut self) {
        let dry = self
            .call("GET /pick", "/pick?dryRun=true&exclude=b@x", "", 200)
            .await;
        assert_eq!(dry.json()["eligible"], json!(["a@x"]));
        let picked = self.call("GET /pick", "/pick?email=a@x", "", 200).await;
        let path = path_of(&picked.json());
        self.call("GET /leases/{id}", &path, "", 200).await;
        let bound = r#"{"ttl":"5m","taskId":7}"#;
        self.call("PUT /leases/{id}", &path, bound, 200).await;
        self.call("GET /leases", "/leases", "", 200).await;
        self.call("GET /leases", "/leases?limit=1", "", 200).await;
        self.call("DELETE /leases/{id}", &path, "", 204).await;
        for method in ["GET", "PUT", "DELETE"] {
            let operation = format!("{method} /leases/{{id}}");
            self.call(&operation, &path, r#"{"ttl":"5m"}"#, 404).await;
        }
        self.call("PUT /leases/{id}", &path, "{}", 400).await;
        self.call("GET /leases", "/leases?limit=0", "", 400).await;
        let text = [("content-type", "text/plain"), ("authorization", TOKEN)];
        self.send("POST /pick", "/pick", &text, "{}", 415).await;
        let large = " ".repeat(200 * 1024);
        self.call("POST /pick", "/pick", &large, 413).await;
        let keyed = [JSON, ("authorization", TOKEN), ("idempotency-key", "k")];
        self.send("POST /pick", "/pick", &keyed, "", 200).await;
        self.send("POST /pick", "/pick?ttl=9s", &keyed, "", 422)
            .await;
    }

    async fn accounts(&mut self) {
        self.call("GET /accounts", "/accounts", "", 200).await;
        self.call("GET /accounts", "/accounts?limit=1", "", 200)
            .await;
        self.call("GET /accounts/{email}", "/accounts/a%40x", "", 200)
            .await;
        self.call("GET /accounts/{email}", "/accounts/nobody", "", 404)
            .await;
        for (operation, readiness) in [("drain", 503), ("resume", 200)] {
            for email in ["a@x", "b@x"] {
                let path = format!("/accounts/{email}/{operation}");
                let operation = format!("POST /accounts/{{email}}/{operation}");
                self.call(&operation, &path, "", 200).await;
            }
            for path in ["/readyz", "/healthz"] {
                let operation = format!("GET {path}");
                self.send(&operation, path, &[], "", readiness).await;
                let verbose = format!("{path}?verbose");
                self.send(&operation, &verbose, &[], "", readiness).await;
            }
        }
    }

    /// Calls that may not be made.
    async fn refusals(&mut self) {
        let watcher = [("authorization", READ_TOKEN)];
        self.send("GET /status", "/status", &[], "", 401).await;
        self.send("GET /pick", "/pick", &watcher, "", 403).await;
        self.send("GET /jobs", "/jobs", &watcher, "", 200).await;
        let page = [("authorization", TOKEN), ("origin", "http://elsewhere")];
        self.send("GET /livez", "/livez", &page, "", 403).await;
        let mut many = vec![("authorization", TOKEN)];
        many.extend([("x-more", "1"); 120]);
        self.send("GET /metrics", "/metrics", &many, "", 431).await;
    }

    /// What a person sees while all slots are in use and a call waits.
    async fn a_full_house(&mut self) {
        let waiter = Arc::clone(&self.running);
        let waiting = tokio::spawn(async move {
            let headers = [("authorization", TOKEN)];
            for _ in 0..9 {
                waiter
                    .send(Method::POST, "/pick?wait=60s", &headers, "")
                    .await;
            }
        });
        eventually(async || {
            let status = self
                .running
                .send(Method::GET, "/status", &[("authorization", TOKEN)], "");
            (status.await.json()["waiting"]["count"] == 1).then_some(())
        })
        .await;
        let shown = self.call("GET /status", "/status", "", 200).await;
        // Its tag is another one with each list, of which there are many in a second.
        let known = [("authorization", TOKEN), ("if-none-match", "*")];
        assert_eq!(shown.json()["waiters"].as_array().unwrap().len(), 1);
        self.send("GET /status", "/status", &known, "", 304).await;
        self.call("GET /pick", "/pick", "", 429).await;
        self.call("GET /jobs", "/jobs", "", 200).await;
        self.call("GET /metrics", "/metrics", "", 200).await;
        self.send("GET /livez", "/livez", &[], "", 200).await;
        waiting.abort();
    }
}

impl Documented {
    /// The fields of queries that are documented are read, and others are refused.
    async fn queries(&mut self) {
        let headers = [("authorization", TOKEN)];
        let told = self
            .running
            .send(Method::GET, "/openapi.json", &headers, "")
            .await
            .json();
        let mut asked = 0;
        for (path, item) in told["paths"].as_object().unwrap() {
            let parameters = item["get"]["parameters"].as_array();
            let parameters = parameters
                .into_iter()
                .flatten()
                .map(|it| match it["$ref"].as_str() {
                    Some(target) => told.pointer(target.trim_start_matches('#')).unwrap(),
                    None => it,
                });
            let in_query = parameters.filter(|it| it["in"] == "query");
            let known: Vec<_> = in_query.map(|it| it["name"].as_str().unwrap()).collect();
            // Those of the health tag ignore what they do not read.
            let is_probe = ["/livez", "/readyz", "/healthz", "/metrics"].contains(&path.as_str());
            if path.contains('{') {
                continue;
            }
            for name in known.iter().copied().chain(["nonsense"]) {
                let asked_for = format!("{path}?{name}=");
                let answer = self
                    .running
                    .send(Method::GET, &asked_for, &headers, "")
                    .await;
                let is_unknown = answer.text.contains("unknown; ");
                assert_eq!(
                    is_unknown,
                    name == "nonsense" && !is_probe,
                    "{asked_for}: {answer:?}"
                );
                asked += 1;
            }
        }
        assert!(asked > 20, "{asked}");
    }

    /// The page, which wants no token.
    async fn page(&mut self) {
        self.send("GET /", "/", &[], "", 302).await;
        for path in ["/dashboard", "/dashboard/app.js", "/dashboard/app.css"] {
            self.send(&format!("GET {path}"), path, &[], "", 200).await;
        }
    }

    /// The events until now. Their stream goes on.
    async fn stream(&mut self) {
        let stream = TcpStream::connect(self.running.addr).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::get("/events")
            .header("host", self.running.addr.to_string())
            .header("authorization", TOKEN)
            .header("last-event-id", "0");
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let (head, mut body) = sender.send_request(request).await.unwrap().into_parts();
        let answer = Answer {
            status: head.status,
            headers: head.headers,
            text: String::new(),
        };
        self.document.check_answer("GET /events", &answer);
        let mut text = String::new();
        while !text.contains("event: job-started\n") || !text.ends_with("\n\n") {
            let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
            text.push_str(str::from_utf8(&piece).unwrap());
        }
        for data in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
            let event: Value = serde_json::from_str(data).unwrap();
            let schema = json!({ "$ref": "#/components/schemas/Event" });
            self.document.check(&schema, &event);
        }
        connection.abort();
    }
}

fn path_of(lease: &Value) -> String {
    format!("/leases/{}", lease["leaseId"].as_str().unwrap())
}

#[tokio::test]
async fn what_is_answered_is_documented_and_what_is_documented_is_answered() {
    let mut told = Documented::start().await;
    told.job().await;
    // An account that has refused is cooling until it is resumed.
    told.accounts().await;
    told.picks().await;
    told.refusals().await;
    told.a_full_house().await;
    told.page().await;
    told.queries().await;
    told.stream().await;
    let answers = told.schemas.iter().map(String::as_str);
    let answers = answers.filter(|name| !OF_REQUESTS.contains(name));
    let unseen = told.document.unseen(answers);
    let mut unseen: Vec<_> = unseen.iter().map(String::as_str).collect();
    // Each event has members of its own: `facts`.
    unseen.retain(|member| {
        !["Event.", "Listed."]
            .iter()
            .any(|of| member.starts_with(of))
    });
    assert_eq!(unseen, UNSEEN);
    assert_eq!(told.document.unanswered(), Vec::<String>::new());
}

/// The test above can fail.
#[tokio::test]
async fn a_document_that_does_not_agree_is_noticed() {
    let told = Documented::start().await;
    let headers = [("authorization", TOKEN)];
    let leased = told.running.send(Method::POST, "/pick", &headers, "").await;
    let whole = told
        .running
        .send(Method::GET, "/openapi.json", &headers, "")
        .await;
    let lease = "/components/schemas/Lease/properties";
    let picked = "/components/responses/Picked";
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 5] = [
        (lease, |members| {
            _ = members.as_object_mut().unwrap().remove("mark")
        }),
        (lease, |members| {
            members["state"] = json!({ "const": "free" })
        }),
        (picked, |answer| {
            answer["content"] = json!({ "text/plain": {} })
        }),
        (picked, |answer| answer["headers"] = json!({})),
        ("/paths/~1pick/post/responses", |answers| {
            *answers = json!({})
        }),
    ];
    for (place, change) in changes {
        let mut other = whole.json();
        change(other.pointer_mut(place).unwrap());
        let mut document = Document::new(other);
        let checked = AssertUnwindSafe(|| document.check_answer("POST /pick", &leased));
        assert!(catch_unwind(checked).is_err(), "{place}");
    }
    let mut other = whole.json();
    other.pointer_mut(lease).unwrap()["more"] = json!({});
    let mut document = Document::new(other);
    document.check_answer("POST /pick", &leased);
    assert_eq!(document.unseen(["Lease"]), ["Lease.more"]);
    assert!(document.unanswered().contains(&"GET /jobs".to_owned()));
}
