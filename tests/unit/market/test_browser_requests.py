from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_market.browser_requests import DAGSTER, METRICS, REGISTRY, Authority, OwnHosts, Site, WebRequest, refusal

OWN = OwnHosts()
BEHIND_A_PROXY = OwnHosts.parse("k2.example.com, desk.example.com:8443")
SITES = (DAGSTER, REGISTRY, METRICS)
UI = "127.0.0.1:3000"
PAGE = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}
FOLLOWED = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}

names = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{2,10}){1,3}", fullmatch=True)
ports = st.none() | st.integers(1, 65_535)


def asked(
    method: str = "GET",
    path: str = "/",
    query: str = "",
    *,
    host: str | None = UI,
    websocket: bool = False,
    **headers: str,
) -> WebRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    every = ({} if host is None else {"host": host}) | named
    return WebRequest(method, path, query, tuple(every.items()), websocket)


def status(request: WebRequest, site: Site = DAGSTER, own: OwnHosts = OWN) -> int | None:
    found = refusal(request, site, own)
    return None if found is None else found.status


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("host", ["127.0.0.1:3000", "localhost:3000", "[::1]:3000", "LOCALHOST", "[0:0::1]:8080"])
def test_this_machines_own_names_are_answered_at_any_port(site: Site, host: str) -> None:
    assert status(asked(host=host), site) is None


@given(name=names, port=ports, site=st.sampled_from(SITES), method=st.sampled_from(["GET", "HEAD", "POST", "DELETE"]))
def test_no_other_name_is_answered_whatever_is_asked(name: str, port: int | None, site: Site, method: str) -> None:
    host = name if port is None else f"{name}:{port}"
    rebound = {"origin": f"http://{host}", "sec_fetch_site": "same-origin", "content_type": "application/json"}
    assert status(asked(method, host=host, **rebound), site) == 421
    assert status(asked(host=host, websocket=True, origin=f"http://{host}"), site) == 421


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1.evil.example", "localhost.evil.example", "evil.localhost", "0.0.0.0:3000", "127.0.0.2", "localhost."],
)
def test_a_name_that_only_looks_like_an_own_one_is_not_answered(host: str) -> None:
    assert status(asked(host=host)) in (400, 421)


@pytest.mark.parametrize("host", [None, "", "evil@127.0.0.1", "127.0.0.1:3000@evil", "127.0.0.1:0x0bb8", "[::1", "a b"])
def test_a_request_that_names_no_host_is_not_answered(host: str | None) -> None:
    assert status(asked(host=host)) == 400


@pytest.mark.parametrize("name", ["host", "origin", "content-type", "sec-fetch-site"])
def test_a_header_that_decides_may_be_there_once_alone(name: str) -> None:
    headers = (("host", UI), (name, UI), (name, "http://127.0.0.1:3000"))
    assert status(WebRequest("GET", "/", "", headers)) == 400


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("k2.example.com", True),
        ("K2.Example.com:8443", True),
        ("desk.example.com:8443", True),
        ("desk.example.com", False),
        ("desk.example.com:443", False),
        ("example.com", False),
        ("evil.k2.example.com", False),
    ],
)
def test_the_operators_names_are_answered_at_the_port_that_they_say_or_at_any(host: str, answered: bool) -> None:
    assert (status(asked(host=host), own=BEHIND_A_PROXY) is None) == answered


def test_a_name_with_the_schemes_own_port_is_answered_without_it() -> None:
    assert status(asked(host="k2.example.com"), own=OwnHosts.parse("k2.example.com:443")) is None


@pytest.mark.parametrize("wrong", ["http://k2.example.com", "k2.example.com/x", "k2:99999", "k2:0", "*", "[::zz]"])
def test_a_setting_that_is_no_host_is_refused_by_its_text(wrong: str) -> None:
    with pytest.raises(ValueError, match="is not a host"):
        OwnHosts.parse(f"localhost,{wrong}")


def test_a_setting_may_be_empty_and_have_blanks() -> None:
    assert OwnHosts.parse(" , ") == OWN
    assert OwnHosts.parse(" a:1 ,, B ").outer == {Authority("a", 1), Authority("b")}


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://127.0.0.1:3000.evil.example",
        "http://127.0.0.1:8888",
        "http://localhost:3000",
        "https://127.0.0.1",
        "null",
        "file://",
        "",
        "127.0.0.1:3000",
    ],
)
def test_a_page_of_another_origin_is_not_answered_another_port_of_this_machine_included(
    site: Site, method: str, origin: str
) -> None:
    assert status(asked(method, origin=origin, content_type="application/json"), site) in (403, 405)
    assert status(asked(websocket=True, origin=origin), site) == 403


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:3000", "http://127.0.0.1:3000"),
        ("localhost:8080", "http://localhost:8080"),
        ("[::1]:3000", "http://[::1]:3000"),
        ("k2.example.com", "https://k2.example.com"),
        ("127.0.0.1:3000", "https://k2.example.com"),
        ("127.0.0.1:3000", "https://desk.example.com:8443"),
    ],
)
def test_an_own_page_is_answered_behind_a_tunnel_and_behind_a_proxy_too(host: str, origin: str) -> None:
    page = {"origin": origin, "sec_fetch_site": "same-origin"}
    json = {"content_type": "application/json"}
    assert status(asked("POST", "/graphql", host=host, **page, **json), own=BEHIND_A_PROXY) is None
    assert status(asked(path="/graphql", host=host, websocket=True, **page), own=BEHIND_A_PROXY) is None


def test_another_port_of_an_operators_host_is_another_origin() -> None:
    page = {"origin": "https://k2.example.com:8081", "content_type": "application/json"}
    assert status(asked("POST", "/graphql", host="k2.example.com", **page), own=BEHIND_A_PROXY) == 403


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("from_site", ["cross-site", "same-site", "anything"])
@pytest.mark.parametrize(
    "how",
    [
        {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
        {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "script"},
        {"sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
        {"sec-fetch-mode": "cors", "sec-fetch-dest": "empty"},
        {},
    ],
)
def test_what_a_browser_says_another_site_asks_is_not_answered(site: Site, from_site: str, how: dict[str, str]) -> None:
    assert status(asked(**{"sec-fetch-site": from_site, **how}), site) == 403


def test_a_link_to_a_page_may_be_followed_from_anywhere_and_a_form_may_not_be_sent() -> None:
    assert status(asked(path="/runs/1", **FOLLOWED)) is None
    assert status(asked("POST", "/graphql", content_type="application/json", **FOLLOWED)) == 403
    assert status(asked(path="/graphql", websocket=True, **FOLLOWED)) == 403


@pytest.mark.parametrize("path", ["/graphql", "/GraphQL", "//graphql", "/graphql/", "/graphql/x"])
@pytest.mark.parametrize("headers", [{}, PAGE, FOLLOWED])
def test_no_query_is_carried_out_by_get(path: str, headers: dict[str, str]) -> None:
    assert status(asked("GET", path, "query=mutation{wipeAssets}", **headers)) == 405
    assert status(asked("HEAD", path, "query={version}", **headers)) == 405
    assert status(asked("GET", path, **headers)) is None


@pytest.mark.parametrize("path", ["/report_asset_check/x", "/report_asset_materialization/x", "/Report_Asset_Check/x"])
def test_nothing_is_reported_by_get(path: str) -> None:
    assert status(asked("GET", path)) == 405
    assert status(asked("POST", path, content_type="application/json")) is None


@pytest.mark.parametrize("path", ["/graphql", "/report_asset_check/sim/x", "/anything"])
@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "text/plain; application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=application/json",
        "application/graphql",
        "application/jsonx",
    ],
)
def test_dagster_takes_json_alone(path: str, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content_type": content_type}
    assert status(asked("POST", path, **headers)) == 415
    assert status(asked("POST", path, content_type="Application/JSON; charset=utf-8")) is None


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_registry_takes_what_its_clients_send_and_nothing_that_a_page_can_send_unasked(method: str) -> None:
    for good in ("application/vnd.schemaregistry.v1+json", "application/json", "application/x-yaml", "application/zip"):
        assert status(asked(method, "/apis", content_type=good), REGISTRY) is None
    for bad in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "nonsense"):
        assert status(asked(method, "/apis", content_type=bad), REGISTRY) == 415
    assert status(asked(method, "/apis"), REGISTRY) == 415


def test_programs_that_are_no_browsers_are_answered() -> None:
    assert status(asked("POST", "/graphql", content_type="application/json")) is None
    assert status(asked("DELETE", "/apis/ccompat/v7/subjects/x"), REGISTRY) is None
    assert status(asked("GET", "/apis/ccompat/v7/subjects", "deleted=true"), REGISTRY) is None
    assert status(asked("GET", "/metrics"), METRICS) is None
    assert status(asked(path="/graphql", websocket=True)) is None


@pytest.mark.parametrize(("site", "method"), [*product(SITES, ["OPTIONS", "TRACE", "CONNECT"]), (METRICS, "POST")])
def test_other_methods_are_not_answered_a_browsers_question_beforehand_among_them(site: Site, method: str) -> None:
    assert status(asked(method, content_type="application/json"), site) == 405


headers = st.sampled_from(
    [
        ("origin", "http://evil.example"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("host", "evil.example"),
    ]
)


@given(
    sign=headers,
    site=st.sampled_from(SITES),
    method=st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]),
    path=st.text(max_size=20),
    query=st.text(max_size=20),
    others=st.dictionaries(st.sampled_from(["content-type", "accept", "referer"]), st.text(max_size=30)),
)
def test_whatever_bears_a_sign_of_another_site_changes_nothing(
    sign: tuple[str, str], site: Site, method: str, path: str, query: str, others: dict[str, str]
) -> None:
    own = {"host": UI, **others, sign[0]: sign[1]}
    assert refusal(WebRequest(method, path, query, tuple(own.items())), site, OWN) is not None
