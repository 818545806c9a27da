import asyncio
import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from forged_requests import EVIL, Forged, mutations_of_dagster, of_a_page, send
from free_ports import free_ports
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from k2_cli.stack.dagster_processes import CodeServer, Webserver, command_on
from k2_cli.stack.health_probes import graphql
from k2_cli.stack.process_supervision import ServiceError, Supervisor
from k2_platform.dagster_storage import DagsterHome
from k2_resources.logs.structured_logging import LOG_FILE

DEFINITIONS = """
import dagster as dg

@dg.asset(check_specs=[dg.AssetCheckSpec("fine", asset="ticks")])
def ticks(): ...

defs = dg.Definitions([ticks])
"""
POOL = "tiny_raw"
LIMIT = 'mutation{setConcurrencyLimit(concurrencyKey:"tiny_raw",limit:0)}'
WIPE = 'mutation{wipeAssets(assetPartitionRanges:[{assetKey:{path:["ticks"]}}]){__typename}}'
REPORTS = (
    "/report_asset_check/ticks?check_name=fine&passed=true",
    "/report_asset_materialization/ticks",
    "/report_asset_observation/ticks",
)
OUTER = "k2.example.com"


@dataclass(frozen=True)
class RunningUi:
    """A guarded webserver of our own definitions."""

    home: DagsterHome
    webserver: Webserver
    supervisor: Supervisor

    @property
    def port(self) -> int:
        return self.webserver.port

    def state(self) -> Any:
        """All that a forged request might change: pools' limits, and events of the asset and its check."""
        limits = graphql(f"{self.webserver.url}/graphql", "{instance{concurrencyLimits{concurrencyKey slotCount}}}")
        with dg.DagsterInstance.from_config(str(self.home.directory)) as instance:
            found = instance.event_log_storage.get_maximum_record_id()
            return limits, found, instance.get_runs_count()


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningUi]:
    directory = tmp_path_factory.mktemp("guarded")
    (directory / "tiny_definitions.py").write_text(DEFINITIONS, encoding="utf-8")
    code_port, ui_port = free_ports(2)
    environment = {"PYTHONPATH": str(directory), "K2_HOME": str(directory), "K2_UI_HOSTS": OUTER}
    home = DagsterHome(directory / "dagster", code_port, environment)
    supervisor = Supervisor(directory / "run", directory / "logs", until_parent_ends=True)
    webserver = Webserver(home, ui_port)
    with supervisor.running(CodeServer(home, (POOL,), "tiny_definitions")), supervisor.running(webserver):
        yield RunningUi(home, webserver, supervisor)


def test_no_page_of_another_site_carries_out_a_mutation_or_reports_an_event(ui: RunningUi) -> None:
    before = ui.state()
    forged = [each for mutation in (LIMIT, WIPE) for each in mutations_of_dagster(mutation)]
    forged += [each for path in REPORTS for each in of_a_page(path, "", "application/json")]
    forged += [Forged("GET", "GET", path) for path in REPORTS]
    answered = [each for each in forged if send(ui.port, each).status < 400]
    assert answered == []
    assert len(forged) > 200
    assert ui.state() == before


def test_what_is_forged_would_change_something_if_it_were_no_page_that_asks(ui: RunningUi) -> None:
    before = ui.state()
    body = json.dumps({"query": 'mutation{setConcurrencyLimit(concurrencyKey:"another",limit:0)}'})
    assert send(ui.port, Forged("script", "POST", "/graphql", {"Content-Type": "application/json"}, body)).status == 200
    limits_changed = ui.state()
    assert limits_changed != before
    report = Forged("script", "POST", REPORTS[1], {"Content-Type": "application/json"}, "{}")
    assert send(ui.port, report).status == 200
    assert ui.state() != limits_changed


@pytest.mark.parametrize("path", ["/", "/server_info", "/runs", "/logs/x", "/graphql", "/no/such/page"])
def test_nothing_is_told_to_a_name_that_is_made_to_mean_this_machine(ui: RunningUi, path: str) -> None:
    answer = send(ui.port, Forged("rebound", "GET", path, {}, None, f"evil.example:{ui.port}"))
    assert answer.status == 421
    assert b"dagster" not in answer.body.lower()


def test_every_answer_forbids_frames_and_guesses_of_its_type(ui: RunningUi) -> None:
    own = {"Content-Type": "application/json"}
    answers = [
        send(ui.port, Forged("page", "GET", "/")),
        send(ui.port, Forged("script", "POST", "/graphql", own, json.dumps({"query": "{version}"}))),
        send(ui.port, Forged("refused", "GET", "/", {"Origin": EVIL})),
        send(ui.port, Forged("static", "GET", "/robots.txt")),
    ]
    for answer in answers:
        assert answer.headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers


def test_scripts_own_pages_and_the_operators_names_are_answered(ui: RunningUi) -> None:
    body = json.dumps({"query": "{version}"})
    json_type = {"Content-Type": "application/json"}
    page = {"Origin": f"http://127.0.0.1:{ui.port}", "Sec-Fetch-Site": "same-origin", **json_type}
    outer = {"Origin": f"https://{OUTER}", "Sec-Fetch-Site": "same-origin", **json_type}
    for headers, host in ((json_type, None), (page, None), (outer, OUTER)):
        answer = send(ui.port, Forged("own", "POST", "/graphql", headers, body, host))
        assert json.loads(answer.body)["data"]["version"] == dg.__version__


def test_a_websocket_opens_for_own_pages_and_scripts_alone(ui: RunningUi) -> None:
    own = f"127.0.0.1:{ui.port}"
    assert _subscribes(ui.port, own, f"http://{own}") == "connection_ack"
    assert _subscribes(ui.port, own, None) == "connection_ack"
    assert _subscribes(ui.port, own, EVIL) == 403
    assert _subscribes(ui.port, own, "http://localhost:8888") == 403
    assert _subscribes(ui.port, own, "null") == 403
    assert _subscribes(ui.port, f"evil.example:{ui.port}", f"http://evil.example:{ui.port}") == 421


def test_what_was_refused_is_logged_with_its_reason_and_not_without_end(ui: RunningUi) -> None:
    marked = Forged("marked", "GET", "/server_info", {"Origin": "http://marked.example"})
    for _ in range(150):
        send(ui.port, marked)
    lines = (ui.home.directory.parent / "logs" / LOG_FILE).read_text(encoding="utf-8").splitlines()
    refused = [each for each in map(json.loads, lines) if each["message"] == "request refused"]
    assert 0 < len(refused) <= 100
    assert any("only this server's own pages may" in each["reason"] for each in refused)


@pytest.mark.slow
def test_a_webserver_that_answers_any_name_does_not_count_as_up(ui: RunningUi, tmp_path: Path) -> None:
    bare = _Bare(ui.home, free_ports(1)[0])
    supervisor = Supervisor(tmp_path / "run", tmp_path / "logs", until_parent_ends=True)
    with pytest.raises(ServiceError, match=r"webserver .* did not answer"):
        supervisor.start(bare)


def test_dagsters_webserver_is_still_made_as_the_guard_makes_it() -> None:
    """What of Dagster's inside the guarded webserver leans on; whatever moved is named by its line."""
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster_webserver import cli
    from dagster_webserver.app import create_app_from_workspace_process_context

    made_by = inspect.signature(create_app_from_workspace_process_context).parameters
    assert next(iter(made_by)) == "workspace_process_context"
    assert "live_data_poll_rate" in made_by
    assert list(inspect.signature(WorkspaceProcessContext).parameters)[:2] == ["instance", "workspace_load_target"]
    assert "version" in inspect.signature(WorkspaceProcessContext).parameters
    assert WorkspaceFileTarget(["workspace.yaml"]).paths == ["workspace.yaml"]
    limits = inspect.signature(dg.DagsterInstance.optimize_for_webserver).parameters
    assert list(limits)[1:] == ["statement_timeout", "pool_recycle", "max_overflow"]
    defaults = {option.name: option.default for option in cli.dagster_webserver.params}
    assert defaults["live_data_poll_rate"] == 2_000
    assert defaults["db_statement_timeout"] == cli.DEFAULT_DB_STATEMENT_TIMEOUT


class _Bare(Webserver):
    """Dagster's own webserver, which answers anyone."""

    start_timeout_seconds = 20.0

    def prepare(self) -> Any:
        arguments = ["--host", "127.0.0.1", "--port", str(self.port), "--workspace", str(self.home.workspace)]
        return command_on(self.home, "dagster_webserver", *arguments)


def _subscribes(port: int, host: str, origin: str | None) -> str | int:
    """The first thing that a websocket says, or the status with which it is refused."""

    async def subscribe() -> str | int:
        try:
            async with connect(
                f"ws://{host}/graphql", host="127.0.0.1", port=port, origin=origin, subprotocols=["graphql-ws"]
            ) as socket:
                await socket.send(json.dumps({"type": "connection_init", "payload": {}}))
                return str(json.loads(await socket.recv())["type"])
        except InvalidStatus as refused:
            return refused.response.status_code

    return asyncio.run(subscribe())
