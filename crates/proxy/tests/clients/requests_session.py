"""The requests library with one session."""

import plan
import requests

SESSION = requests.Session()


def ask(method, url, headers, kind):
    body = plan.body(kind)
    if kind == "chunked":
        body = plan.pieces(body)
    answer = SESSION.request(method, url, headers=dict(headers), data=body, timeout=20)
    return answer.status_code


for name, early, then in plan.lines():
    try:
        print(name, ask(*early), ask(*then), sep="\t")
    except Exception as error:
        print(name, repr(error), sep="\t")
