"""curl: each call and its next one in one process, which keeps the connection."""

import subprocess
import tempfile

import plan


def options(method, url, headers, kind, body):
    more = [f"{name}: {value}" for name, value in headers]
    if kind == "chunked":
        more.append("Transfer-Encoding: chunked")
    if kind.startswith("asks"):
        more.append("Expect: 100-continue")
    said = [option for line in more for option in ("--header", line)]
    return ["--silent", "--show-error", "--output", "/dev/null", "--write-out", "\t%{http_code}",
            "--max-time", "20", "--request", method, "--data-binary", f"@{body}", *said, url]


for name, early, then in plan.lines():
    with tempfile.NamedTemporaryFile() as body, tempfile.NamedTemporaryFile() as next_body:
        body.write(plan.body(early[3]))
        next_body.write(plan.body(then[3]))
        body.flush()
        next_body.flush()
        asked = [*options(*early, body.name), "--next", *options(*then, next_body.name)]
        ended = subprocess.run(["curl", *asked], capture_output=True, text=True)
        print(name + ended.stdout + ended.stderr.replace("\n", " "))
