"""What the Python clients share: the calls that they make, a line each, and their bodies."""

import sys


def body(kind):
    """A JSON object of so many bytes, or one in chunks."""
    length = 100_000 if kind == "chunked" else int(kind.removeprefix("asks "))
    return b"{}" + b" " * (length - 2)


def pieces(whole):
    """The same in pieces."""
    for start in range(0, len(whole), 10_000):
        yield whole[start:start + 10_000]


def headers(text):
    """Pairs of names and values."""
    return [tuple(line.split(": ")) for line in text.split("|") if line != "-"]


def lines():
    """Name, method, URL, headers, kind of body; then URL and headers of the next call."""
    for line in sys.stdin:
        name, method, url, given, kind, next_url, next_given = line.rstrip("\n").split("\t")
        yield name, (method, url, headers(given), kind), ("POST", next_url, headers(next_given), "2")
