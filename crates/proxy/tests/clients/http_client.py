"""Python's http.client on kept connections."""

from http.client import HTTPConnection
from urllib.parse import urlsplit

import plan

CONNECTIONS = {}


def ask(method, url, headers, kind):
    place = urlsplit(url)
    connection = CONNECTIONS.setdefault(place.netloc, HTTPConnection(place.netloc, timeout=20))
    body = plan.body(kind)
    chunked = kind == "chunked"
    connection.putrequest(method, f"{place.path}?{place.query}")
    for name, value in headers:
        connection.putheader(name, value)
    if chunked:
        connection.putheader("Transfer-Encoding", "chunked")
        body = plan.pieces(body)
    else:
        connection.putheader("Content-Length", len(body))
    connection.endheaders(body, encode_chunked=chunked)
    answer = connection.getresponse()
    answer.read()
    return answer.status


for name, early, then in plan.lines():
    try:
        print(name, ask(*early), ask(*then), sep="\t")
    except Exception as error:
        print(name, repr(error), sep="\t")
