"""Requests as a browser sends them for pages of other sites, put together by hand; and some that no browser sends."""

import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

EVIL = "http://evil.example"
MULTIPART = (
    '--B\r\nContent-Disposition: form-data; name="operations"\r\n\r\n{}\r\n'
    '--B\r\nContent-Disposition: form-data; name="map"\r\n\r\n{{}}\r\n--B--\r\n'
)


@dataclass(frozen=True)
class Forged:
    """One request.

    Attributes:
        how: What a page does to have it sent.
        method: The method.
        path: Path and query.
        headers: Headers beside the host.
        body: The body.
        host: The host that it names; None for the server's own.
    """

    how: str
    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    host: str | None = None


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def send(port: int, forged: Forged) -> Answer:
    """Send a request to a port of this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.putrequest(forged.method, forged.path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", forged.host or f"127.0.0.1:{port}")
        for name, value in forged.headers.items():
            connection.putheader(name, value)
        body = None if forged.body is None else forged.body.encode()
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read())
    finally:
        connection.close()


def of_a_page(path: str, body: str | None, own_type: str) -> Iterator[Forged]:
    """All ways in which pages of other sites have something sent to a path that takes a body."""
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=B"):
        for origin in (EVIL, "null", None):
            about = {"Content-Type": content_type} | ({} if origin is None else {"Origin": origin})
            yield Forged(f"form or fetch of {content_type}, origin {origin}", "POST", path, about, body)
    yield Forged("text/plain that says JSON", "POST", path, {"Content-Type": "text/plain; application/json"}, body)
    yield Forged("no type", "POST", path, {"Origin": EVIL}, body)
    for origin in (EVIL, "null", "http://127.0.0.1:1", "http://localhost"):
        yield Forged(f"JSON, origin {origin}", "POST", path, {"Content-Type": own_type, "Origin": origin}, body)
    for site in ("cross-site", "same-site"):
        yield Forged(f"JSON, {site}", "POST", path, {"Content-Type": own_type, "Sec-Fetch-Site": site}, body)
    for host in ("evil.example", "evil.example:3000", "127.0.0.1.evil.example", "localhost.evil.example:80"):
        rebound = {"Content-Type": own_type, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
        yield Forged(f"rebound name {host}", "POST", path, rebound, body, host)
        yield Forged(f"rebound name {host}, no origin", "POST", path, {"Content-Type": own_type}, body, host)


def mutations_of_dagster(mutation: str) -> Iterator[Forged]:
    """All ways in which pages of other sites send a GraphQL mutation."""
    query = f"/graphql?query={quote(mutation)}"
    image = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for name, headers in {"image": image, "image of an old browser": {}, "followed": followed}.items():
        for method in ("GET", "HEAD"):
            yield Forged(f"{method}, {name}", method, query, {**headers, "Accept": "image/*"})
            yield Forged(f"{method}, {name}, with origin", method, query, {**headers, "Origin": EVIL})
    yield Forged("GET, rebound name", "GET", query, {}, None, "evil.example:3000")
    yield from of_a_page(query, "", "application/json")
    yield from of_a_page("/graphql", json.dumps({"query": mutation}), "application/json")
    yield from of_a_page("/graphql", mutation, "application/graphql")
    multipart = MULTIPART.format(json.dumps({"query": mutation}))
    yield Forged("multipart", "POST", "/graphql", {"Content-Type": "multipart/form-data; boundary=B"}, multipart)
