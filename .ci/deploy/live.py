"""A simulated upstream, a busy sidecar and a Prometheus that scrapes it, all on this machine."""

import json
import os
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import yaml
from common import DEPLOY, ROOT, check

# How long all queries together may take to get an answer: what they show has to happen, and to be scraped.
ANSWERED_MAX = 60
SETTINGS = {
    "KLB_UPSTREAM__TOKEN": "user:1-sim",
    "KLB_ACCOUNTS__REFRESH_INTERVAL": "1s",
    "KLB_RECONCILE__INTERVAL": "500ms",
    "KLB_RECONCILE__SETTLE": "5s",
    "KLB_FORWARD__WAIT": "5s",
}
ACCOUNTS = "a@example.com=2,b@example.com=2,c@example.com=2,d@example.com=2,e@example.com=2"


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def call(url, method="GET", body=None, headers=None):
    """Status and JSON."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, method=method, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            text, status = answer.read(), answer.status
    except urllib.error.HTTPError as refusal:
        text, status = refusal.read(), refusal.code
    return status, json.loads(text) if text[:1] in (b"{", b"[") else None


class Live:
    def __enter__(self):
        self.directory = tempfile.TemporaryDirectory()
        self.running, self.is_over = [], threading.Event()
        self.started = time.time()
        sim, sidecar, prometheus = (f"127.0.0.1:{free_port()}" for _ in range(3))
        self.sim, self.sidecar, self.prometheus = f"http://{sim}", f"http://{sidecar}", f"http://{prometheus}"
        try:
            program = f"{ROOT}/target/debug/kling-sim"
            times = ["--job-seconds", "1..2", "--release-lag", "200ms"]
            self.start([program, "--listen", sim, "--accounts", ACCOUNTS, *times], {})
            settings = {
                "KLB_LISTEN": sidecar,
                "KLB_UPSTREAM__BASE_URL": f"{self.sim}/v1/kling",
                "KLB_STATE__PATH": f"{self.directory.name}/book.db",
                **SETTINGS,
            }
            self.start([f"{ROOT}/target/debug/kling-balancer", "serve"], settings)
            self.start_prometheus(sidecar, prometheus)
            self.until_up(f"{self.sidecar}/readyz")
            self.until_up(f"{self.prometheus}/-/ready")
            self.working = [threading.Thread(target=self.work, args=(part,)) for part in (self.jobs, self.troubles)]
            for thread in self.working:
                thread.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.is_over.set()
        for thread in self.working:
            thread.join()
        self.stop()

    def stop(self):
        for process in reversed(self.running):
            process.terminate()
            process.wait()
        self.directory.cleanup()

    def start(self, command, environment):
        log = open(self.log_of(command), "w")
        self.running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))

    def log_of(self, command):
        return f"{self.directory.name}/{os.path.basename(command[0])}.log"

    def start_prometheus(self, sidecar, listen):
        settings = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [f"{DEPLOY}/prometheus/alerts.yml"],
            "scrape_configs": [{"job_name": "kling-balancer", "static_configs": [{"targets": [sidecar]}]}],
        }
        path = f"{self.directory.name}/prometheus.yml"
        json.dump(settings, open(path, "w"))
        storage = f"--storage.tsdb.path={self.directory.name}/prometheus"
        self.start(["prometheus", f"--config.file={path}", storage, f"--web.listen-address={listen}"], {})

    def until_up(self, url):
        for _ in range(300):
            self.check_running()
            try:
                if call(url)[0] == 200:
                    return
            except urllib.error.URLError:
                pass
            time.sleep(0.1)
        check(False, f"{url} does not become ready")

    def check_running(self):
        for process in self.running:
            if process.poll() is not None:
                # It goes with the directory.
                log = open(self.log_of(process.args)).read()
                check(False, f"{process.args[0]} has ended:\n{log}")

    # What the sidecar is asked for meanwhile.

    def work(self, part):
        while not self.is_over.is_set():
            part()

    def job(self, prompt, **headers):
        """Starts a job and follows it to its end."""
        url = f"{self.sidecar}/v1/kling"
        status, started = call(f"{url}/videos/text2video", "POST", {"prompt": prompt}, headers)
        while status == 200 and not self.is_over.is_set():
            _, task = call(f"{url}/tasks/{started['task']['id']}")
            if task and task.get("status_final"):
                return
            self.is_over.wait(0.2)

    def jobs(self):
        """More jobs than there are slots, so that some wait."""
        prompts = ["a boat"] * 11 + ["a doomed boat", "a forbidden boat"]
        threads = [threading.Thread(target=self.job, args=(prompt,)) for prompt in prompts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        picked, lease = call(f"{self.sidecar}/pick", "POST")
        if picked == 200:
            call(f"{self.sidecar}/leases/{lease['leaseId']}", "DELETE")

    def fault(self, effect, account=None, on="jobStarts"):
        fault = {"effect": effect, "on": on, "times": 1}
        call(f"{self.sim}/_sim/faults", "POST", fault | ({"account": account} if account else {}))

    def troubles(self):
        """All that a dashboard is there to show, one thing after the other."""
        self.fault({"status": 429}, "a@example.com")
        self.fault({"status": 596}, "d@example.com")
        self.fault({"status": 412}, "e@example.com")
        self.fault("resetAfter", "b@example.com")
        # A job of another tool, and the search for its owner.
        token = {"Authorization": f"Bearer {SETTINGS['KLB_UPSTREAM__TOKEN']}"}
        foreign = {"prompt": "a boat of another tool", "email": "c@example.com"}
        status, started = call(f"{self.sim}/v1/kling/videos/text2video", "POST", foreign, token)
        if status == 200:
            call(f"{self.sidecar}/v1/kling/tasks/{started['task']['id']}")
        self.fault({"delayMs": 1000}, "c@example.com")
        self.give_up()
        for email in ("d@example.com", "e@example.com"):
            self.is_over.wait(1.5)
            call(f"{self.sidecar}/accounts/{email}/resume", "POST")

    def give_up(self):
        """A client that is gone before its job is started."""
        host, port = self.sidecar.removeprefix("http://").split(":")
        body = b'{"prompt":"a boat that nobody waits for","email":"c@example.com"}'
        head = f"POST /v1/kling/videos/text2video HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        with socket.create_connection((host, int(port))) as client:
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            self.is_over.wait(0.5)

    # What Prometheus is asked.

    def api(self, path, parameters):
        query = urllib.parse.urlencode(parameters)
        status, answer = call(f"{self.prometheus}/api/v1/{path}?{query}")
        check(status == 200 and answer["status"] == "success", f"Prometheus: {answer and answer.get('error')}: {query}")
        return answer["data"]

    def until_answered(self, queries, may_be_empty):
        """Asks each of `queries` (title to expression) until it has an answer. Those that `may_be_empty` are asked once."""
        open_queries, deadline = dict(queries), time.monotonic() + ANSWERED_MAX
        while True:
            for title, expr in list(open_queries.items()):
                span = {"start": self.started, "end": time.time(), "step": 1}
                series = self.api("query_range", {"query": expr, **span})["result"]
                if title in may_be_empty or any(has_number(one) for one in series):
                    del open_queries[title]
            if not open_queries:
                return
            listed = "\n".join(f"{title}: {expr}" for title, expr in open_queries.items())
            check(time.monotonic() < deadline, f"Prometheus has no answer to\n{listed}")
            time.sleep(1)


def has_number(series):
    return any(value not in ("NaN", "+Inf", "-Inf") for _, value in series["values"])
