"""Decides which HTTP requests a server of K2's answers, so that no page of another site drives it from a browser.

K2's servers have no log-in: they listen on loopback, and a browser on the machine is on loopback, too. A browser lets
any page send a GET, a form's POST and a websocket's handshake to any address, and a page whose own name is made to mean
127.0.0.1 (DNS rebinding) is of the server's own origin. It always says by which name it asks (``Host``), and which
page asks (``Origin``, ``Sec-Fetch-Site``: https://www.w3.org/TR/fetch-metadata/); these are what is held here. Programs
that are no browsers send neither ``Origin`` nor ``Sec-Fetch-Site`` and are answered.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9](?:[a-z0-9._-]{0,252}[a-z0-9])?)(?::([0-9]{1,5}))?")
_DEFAULT_PORTS: Mapping[str, int] = {"http": 80, "https": 443}
_READS = frozenset({"GET", "HEAD"})
_SENT_UNASKED = frozenset({"text/plain", "application/x-www-form-urlencoded", "multipart/form-data"})
"""Content types that a page may send to another site unasked: Fetch's CORS-safelisted ones."""
_SINGLE = ("host", "origin", "content-type", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest")


@dataclass(frozen=True)
class Authority:
    """A name or an address, and a port where one is given: what stands in ``Host``."""

    name: str
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Authority":
        """Return the authority that a text names; case does not count, nor how an IPv6 address is written.

        Raises:
            ValueError: The text is none.
        """
        found = _AUTHORITY.fullmatch(text.lower())
        if found is None:
            raise ValueError(f"{text!r} is not a host: expected a name or an address, and a port after a colon or none")
        name, port = found[1], None if found[2] is None else int(found[2])
        if port is not None and not 1 <= port <= 65_535:
            raise ValueError(f"{text!r} is not a host: port {port} is not between 1 and 65535")
        return cls(f"[{_ipv6(name[1:-1], text)}]" if name.startswith("[") else name, port)


def _ipv6(address: str, text: str) -> ipaddress.IPv6Address:
    try:
        return ipaddress.IPv6Address(address)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a host: {error}") from error


LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
"""Names that no page of another site can have: a browser asks its own machine by them, and nobody else."""


NOBODYS_HOST = "other.invalid"
"""A name that nobody can have (RFC 2606): whoever probes a server asks by it to see that it refuses others."""


@dataclass(frozen=True)
class OwnHosts:
    """The hosts by which a server may be asked: this machine's own at any port, and the operator's.

    Attributes:
        outer: The operator's, as of a proxy in front; without a port they are meant at any.
    """

    outer: frozenset[Authority] = frozenset()

    @classmethod
    def parse(cls, text: str) -> "OwnHosts":
        """Return the hosts of a setting: ``name`` or ``name:port``, with commas between them.

        Raises:
            ValueError: One of them is no host.
        """
        return cls(frozenset(Authority.parse(each.strip()) for each in text.split(",") if each.strip()))

    def __contains__(self, asked: Authority) -> bool:
        """Say whether it is one of them."""
        return asked.name in LOOPBACK or any(
            each.name == asked.name and (each.port is None or asked.port == each.port or _is_default(each, asked))
            for each in self.outer
        )


def _is_default(own: Authority, asked: Authority) -> bool:
    return asked.port is None and own.port in _DEFAULT_PORTS.values()


@dataclass(frozen=True)
class Site:
    """Describes how one of K2's servers may be asked.

    Attributes:
        methods: The methods that it answers.
        json_only: Whether what is sent to it must be ``application/json``; otherwise it may be anything that a page
            can't send to another site unasked.
        posted: What the paths begin with to which things are sent and from which none is fetched.
        queries: Likewise those to which queries are sent; what is fetched there is a page without a query.
    """

    methods: frozenset[str]
    json_only: bool = False
    posted: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()

    def may_fetch(self, path: str, query: str) -> bool:
        """Say whether a path (decoded, whatever its case and slashes) may be fetched by GET with a query or none."""
        begin = path.lower().lstrip("/")
        return not begin.startswith(self.posted) and not (query and begin.startswith(self.queries))


DAGSTER = Site(
    methods=frozenset({"GET", "HEAD", "POST"}), json_only=True, posted=("report_asset",), queries=("graphql",)
)
"""Dagster's webserver. It carries out a GraphQL mutation that comes by GET, or with a form's content type."""

REGISTRY = Site(methods=frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}))
"""A schema registry; its clients send application/json and types of their own."""

METRICS = Site(methods=_READS)
"""The metrics exporter."""


@dataclass(frozen=True)
class WebRequest:
    """A request as it came.

    Attributes:
        method: Its method; GET for a websocket's handshake.
        path: Its path, decoded.
        query: What stands behind the question mark.
        headers: Names in lower case, and values.
        is_websocket: Whether it opens a websocket.
    """

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    is_websocket: bool = False
    _values: Mapping[str, tuple[str, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Have the headers that decide at hand."""
        values = {name: tuple(value for key, value in self.headers if key == name) for name in _SINGLE}
        object.__setattr__(self, "_values", values)

    def header(self, name: str) -> str | None:
        """Return a header's value; None where it is absent."""
        values = self._values[name]
        return values[0].strip() if values else None

    def repeated(self) -> Iterable[str]:
        """Return the headers that decide and are there more than once, so that two programs might read two things."""
        return (name for name, values in self._values.items() if len(values) > 1)

    @property
    def reads(self) -> bool:
        """Say whether its method is one that changes nothing."""
        return self.method in _READS


@dataclass(frozen=True)
class Refusal:
    """Represents a refused request: the HTTP status and the reason."""

    status: int
    reason: str


def refusal(request: WebRequest, site: Site, own: OwnHosts) -> Refusal | None:
    """Tell why a request is not answered; None where it is."""
    return (
        _of_headers(request, own)
        or _of_page(request, own)
        or (None if request.is_websocket else _of_content(request, site))
    )


def _of_headers(request: WebRequest, own: OwnHosts) -> Refusal | None:
    for name in request.repeated():
        return Refusal(400, f"header {name} is there more than once")
    host = request.header("host")
    if host is None or _authority(host) is None:
        return Refusal(400, f"header host: found {host!r}, expected the name or the address of this server")
    if Authority.parse(host) not in own:
        return Refusal(
            421,
            f"this server is not known as {host!r}: ask 127.0.0.1 or localhost, or name the host in K2_UI_HOSTS and "
            "start it again",
        )
    return None


def _of_page(request: WebRequest, own: OwnHosts) -> Refusal | None:
    """Refuse what a page of another site asks: of another port, too, which is another program's."""
    origin, from_site = request.header("origin"), request.header("sec-fetch-site")
    host = Authority.parse(request.header("host") or "")
    if origin is not None and not _is_own_origin(origin, host, own):
        return Refusal(403, f"a page of {origin!r} asks; only this server's own pages may")
    if from_site in (None, "same-origin", "none"):
        return None
    # Someone follows a link to a page: it is shown to them, and to no other page.
    followed = (request.header("sec-fetch-mode"), request.header("sec-fetch-dest")) == ("navigate", "document")
    if followed and request.reads and not request.is_websocket:
        return None
    return Refusal(403, f"a page of another site asks (sec-fetch-site: {from_site}); only this server's own pages may")


def _of_content(request: WebRequest, site: Site) -> Refusal | None:
    if request.method not in site.methods:
        return Refusal(405, f"method {request.method} is not answered, only {', '.join(sorted(site.methods))}")
    if request.reads:
        if site.may_fetch(request.path, request.query):
            return None
        return Refusal(405, "this is sent by POST as application/json, never by GET in the address")
    if request.method == "DELETE":
        return None  # a page that may not is kept from it by its browser, which asks first
    content_type = request.header("content-type")
    kind = None if content_type is None else content_type.partition(";")[0].strip().lower()
    if site.json_only and kind != "application/json":
        return Refusal(415, f"content-type: found {content_type!r}, expected application/json")
    if kind is None or kind in _SENT_UNASKED or "/" not in kind:
        return Refusal(415, f"content-type: found {content_type!r}, expected application/json or a type of its kind")
    return None


def _is_own_origin(origin: str, host: Authority, own: OwnHosts) -> bool:
    """Say whether a page's origin is the server that it asks, or one of the operator's in front of it."""
    scheme, separator, rest = origin.partition("://")
    found = _authority(rest)
    if separator == "" or scheme.lower() not in _DEFAULT_PORTS or found is None:
        return False  # "null" among others: a page in a sandbox, or of a file
    default = _DEFAULT_PORTS[scheme.lower()]
    page = Authority(found.name, found.port or default)
    if page == Authority(host.name, host.port or default):
        return True
    return any(Authority(each.name, each.port or default) == page for each in own.outer)


def _authority(text: str) -> Authority | None:
    try:
        return Authority.parse(text)
    except ValueError:
        return None
