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


CCOMPAT = "/apis/ccompat/v7"
REGISTRY_JSON = "application/vnd.schemaregistry.v1+json"
FORGED_SCHEMA = json.dumps({"schema": json.dumps({"type": "record", "name": "Forged", "fields": []})})


def requests_of_the_registry(subject: str) -> Iterator[Forged]:
    """What pages of other sites try on a registry: new schemas, a compatibility, deletions of a subject, reading."""
    artifacts = "/apis/registry/v3/groups/default/artifacts"
    for name in ("forged-value", subject):
        yield from of_a_page(f"{CCOMPAT}/subjects/{name}/versions", FORGED_SCHEMA, REGISTRY_JSON)
    yield from of_a_page(artifacts, json.dumps({"artifactId": "forged", "artifactType": "AVRO"}), "application/json")
    for method, path in (("PUT", f"{CCOMPAT}/config"), ("DELETE", f"{CCOMPAT}/subjects/{subject}")):
        body = '{"compatibility": "NONE"}' if method == "PUT" else None
        for headers in ({"Origin": EVIL}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://localhost:8888"}):
            yield Forged(f"{method} of a page", method, path, {**headers, "Content-Type": REGISTRY_JSON}, body)
        yield Forged(f"{method} of a rebound name", method, path, {"Content-Type": REGISTRY_JSON}, body, "evil.example")
        asked = {"Origin": EVIL, "Access-Control-Request-Method": method}
        yield Forged(f"may it {method}", "OPTIONS", path, asked)
    for path in ("/", "/apis", f"{CCOMPAT}/subjects", "/apis/registry/v3/system/info"):
        yield Forged("rebound name reads", "GET", path, {}, None, "evil.example:8081")
        yield Forged("another origin reads", "GET", path, {"Origin": EVIL})


def first_bytes_of_a_browser(content: bytes) -> dict[str, bytes]:
    """What a browser can make a server hear that does not speak HTTP, by how; ``content`` is what the page chooses.

    The first bytes are the browser's: of HTTP, of TLS, or of STUN (a page may name any server for WebRTC).
    """
    head = b"Host: 127.0.0.1\r\nOrigin: http://evil.example\r\nContent-Length: %d\r\n\r\n" % len(content)
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n"
    stun = b"\x00\x01\x00\x08\x21\x12\xa4\x42" + b"k2k2k2k2k2k2" + content
    return {
        "GET": b"GET / HTTP/1.1\r\n" + head + content,
        "POST": b"POST / HTTP/1.1\r\n" + head + content,
        "PUT": b"PUT / HTTP/1.1\r\n" + head + content,
        "OPTIONS": b"OPTIONS / HTTP/1.1\r\n" + head + content,
        "websocket": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + upgrade + content,
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + content,
        "STUN": stun + bytes(70_000),
    }
