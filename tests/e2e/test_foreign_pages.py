"""A page of somebody else's, open in a browser on this machine: it changes and reads nothing of a stack that runs."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from dagster_pages import browser_page, chromium, show_asset_graph
from foreign_site import NAME, RESOLVER, ForeignSite, attack, foreign_site
from playwright.sync_api import Page, expect
from running_stack import RunningStack, eventually

from k2_market.feeds.feed import feed_named, load_feeds

pytestmark = pytest.mark.timeout(900)

LIMIT = 'mutation{setConcurrencyLimit(concurrencyKey:"forged",limit:0)}'
WIPE = 'mutation{wipeAssets(assetPartitionRanges:[{assetKey:{path:["sim","ohlcv_1d"]}}]){__typename}}'
LAUNCH = (
    'mutation{launchRun(executionParams:{selector:{repositoryLocationName:"k2",repositoryName:"__repository__",'
    'jobName:"sim_maintenance"},mode:"default",executionMetadata:{tags:[{key:"forged",value:"1"}]}}){__typename}}'
)
REPORT = "/report_asset_check/sim/ohlcv_1d"
STATE = """query State($day: String!) {
  instance { concurrencyLimits { concurrencyKey slotCount } }
  forged: runsOrError(filter: {tags: [{key: "forged", value: "1"}]}) { ... on Runs { results { runId } } }
  assetOrError(assetKey: {path: ["sim", "ohlcv_1d"]}) { ... on Asset {
    assetMaterializations(partitions: [$day]) { runId } } }
  assetCheckExecutions(assetKey: {path: ["sim", "ohlcv_1d"]}, checkName: "roll_up_identity", limit: 20) { id } }"""


@pytest.fixture
def site() -> Iterator[ForeignSite]:
    with foreign_site() as site:
        yield site


@pytest.fixture
def page(stack: RunningStack, site: ForeignSite) -> Iterator[Page]:
    """A browser that shows the site's page."""
    executable = chromium()
    if executable is None:
        pytest.skip("no Chromium is installed (on Debian: apt-get install chromium)")
    with browser_page(executable, RESOLVER) as page:
        page.goto(site.page)
        yield page


def mutations() -> list[dict[str, str]]:
    asked = [
        {"path": "/graphql", "query": f"query={quote(each)}", "body": json.dumps({"query": each})}
        for each in (LIMIT, WIPE, LAUNCH)
    ]
    report = {"check_name": "roll_up_identity", "passed": "true"}
    asked.append({"path": REPORT, "query": urlencode(report), "body": json.dumps(report)})
    return [{**each, "type": "application/json"} for each in asked]


def schemas() -> list[dict[str, str]]:
    schema = json.dumps({"type": "record", "name": "Forged", "fields": []})
    own = {"type": "application/vnd.schemaregistry.v1+json", "query": ""}
    ccompat, native = "/apis/ccompat/v7", "/apis/registry/v3/groups/default/artifacts"
    artifact = {"artifactId": "forged", "artifactType": "AVRO", "firstVersion": {"content": {"content": schema}}}
    return [
        {**own, "path": f"{ccompat}/subjects/forged-value/versions", "body": json.dumps({"schema": schema})},
        {**own, "path": f"{ccompat}/config", "body": json.dumps({"compatibility": "NONE"})},
        {**own, "path": native, "body": json.dumps(artifact)},
        {**own, "path": f"{ccompat}/subjects/{subject_of_sim()}", "body": "{}"},
    ]


def subject_of_sim() -> str:
    from k2_market.schemas.avro import subject_of
    from k2_resources.settings import Settings

    return subject_of(feed_named(load_feeds(Settings().feed_directories), "sim").topics.trades)


def state(stack: RunningStack, day: str) -> Any:
    return stack.graphql(STATE, day=day)


def registered(stack: RunningStack) -> list[bytes]:
    base = f"http://127.0.0.1:{stack.settings.registry_port}"
    paths = ("/apis/ccompat/v7/subjects?deleted=true", "/apis/ccompat/v7/config", "/apis/registry/v3/search/artifacts")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return [opener.open(base + path, timeout=30).read() for path in paths]


def assert_read_nothing(told: dict[str, Any]) -> None:
    """No try came back with an answer that the page could read, or that it could use as a picture, script or style."""
    socket = told.pop("socket")
    assert not socket.startswith("read"), socket
    for path, tries in told.items():
        for how in ("image", "script", "style"):
            assert tries[how] != "loaded", (path, how)
        for how in ("postJson", "put", "delete"):
            assert tries[how].startswith("failed: "), (path, how, tries[how])


def test_the_page_tries_all_that_it_says(page: Page, site: ForeignSite) -> None:
    """On a server that answers anyone: what it can send it does send."""
    attack(page, f"http://127.0.0.1:{site.port}", mutations()[:1])
    asked = {(method, kind.split(";")[0]) for method, path, kind in site.asked if path.startswith("/graphql")}
    for sent in (
        ("GET", ""),
        ("POST", ""),
        ("POST", "text/plain"),
        ("POST", "application/x-www-form-urlencoded"),
        ("POST", "multipart/form-data"),
        ("OPTIONS", ""),
    ):
        assert sent in asked
    assert any(path.startswith("/graphql?query=mutation") for _, path, _ in site.asked)


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_the_page_changes_and_reads_nothing_of_dagster(page: Page, stack: RunningStack, simulated, name: str) -> None:
    before = state(stack, simulated.days[2])
    assert before["assetOrError"]["assetMaterializations"]
    told = attack(page, f"http://{name}:{stack.settings.dagster_port}", mutations())
    assert state(stack, simulated.days[2]) == before
    assert_read_nothing(told)


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_the_page_changes_and_reads_nothing_of_the_registry(page: Page, stack: RunningStack, name: str) -> None:
    before = registered(stack)
    told = attack(page, f"http://{name}:{stack.settings.registry_port}", schemas())
    assert registered(stack) == before
    assert_read_nothing(told)


def test_the_page_shows_no_page_of_ours_in_a_frame(page: Page, stack: RunningStack) -> None:
    page.evaluate(f"frame('{stack.ui}/runs')")
    framed = [frame for frame in page.frames if frame != page.main_frame]
    assert framed
    assert all("dagster" not in frame.content().lower() for frame in framed)


@pytest.mark.parametrize("port", ["dagster_port", "registry_port", "metrics_port"])
def test_a_name_that_is_made_to_mean_this_machine_reads_and_changes_nothing(
    page: Page, stack: RunningStack, simulated, port: str
) -> None:
    before = state(stack, simulated.days[2]), registered(stack)
    base = f"http://{NAME}:{getattr(stack.settings, port)}"
    answer = page.goto(f"{base}/")
    assert answer is not None
    assert answer.status == 421
    for target in [*mutations(), *schemas()]:
        for method in ("GET", "POST", "PUT", "DELETE"):
            body = "" if method in ("GET", "DELETE") else f", body: {json.dumps(target['body'])}"
            head = f"{{method: '{method}', headers: {{'content-type': '{target['type']}'}}{body}}}"
            path = f"{target['path']}?{target['query']}"
            status = page.evaluate(f"fetch({json.dumps(path)}, {head}).then(answer => answer.status)")
            assert 400 <= status < 500 or (port == "metrics_port" and status == 501), (method, path, status)
    assert (state(stack, simulated.days[2]), registered(stack)) == before


def test_dagsters_own_pages_are_refused_nothing_and_their_websocket_opens(page: Page, stack: RunningStack) -> None:
    refused: list[tuple[int, str]] = []
    heard: list[str] = []
    page.on("response", lambda answer: refused.append((answer.status, answer.url)) if answer.status >= 400 else None)
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: heard.append(str(frame))))
    for name in show_asset_graph(page, stack.ui, "sim"):
        expect(name).to_be_visible()
    page.goto(f"{stack.ui}/runs")
    expect(page.get_by_text("sim_ingest").first).to_be_visible()
    # What the browser hears comes while it is asked something.
    eventually(lambda: page.evaluate("true") and any("connection_ack" in each for each in heard), "a websocket opens")
    assert refused == []


def test_a_link_from_elsewhere_leads_to_the_ui(page: Page, stack: RunningStack) -> None:
    page.evaluate(f"location.href = '{stack.ui}/runs'")
    expect(page.get_by_text("sim_ingest").first).to_be_visible()
