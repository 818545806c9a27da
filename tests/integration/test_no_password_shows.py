"""Passwords planted in every setting that may hold one, and looked for in all that is shown, written and kept."""

import contextlib
import gzip
import json
import sqlite3
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from free_ports import free_ports
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from k2_cli.stack.dagster_processes import Webserver
from k2_cli.stack.local_stack import LocalStack
from k2_cli.stack.process_supervision import Supervisor
from k2_resources.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PLANTED = {
    "catalog_uri": "postgresql+psycopg2://k2:planted-catalog@127.0.0.1:1/catalog",
    "registry_url": "http://k2:planted-registry@127.0.0.1:1/apis/ccompat/v7",
    "warehouse": "s3://key:planted-warehouse@store/warehouse",
    "alert_webhook": "https://127.0.0.1:1/services/planted-webhook",
    "kafka_bootstrap": "planted-kafka.invalid:9092",
}
SECRET = b"planted-"
NO_SECRET = b"planted-kafka"
"""Where the broker is may be told in messages and records; no field holds it, since it goes the way of the others."""

RESOURCES = """{ allTopLevelResourceDetailsOrError(repositorySelector: {repositoryLocationName: "k2",
  repositoryName: "__repository__"}) { __typename ... on ResourceDetailsList { results { name description resourceType
  configFields { name description configTypeKey isRequired defaultValueAsJson }
  configuredValues { key value type } } } } }"""
JOBS = """{ repositoryOrError(repositorySelector: {repositoryLocationName: "k2", repositoryName: "__repository__"}) {
  ... on Repository { jobs { name runConfigSchema: modes { name resources { name configField {
  name defaultValueAsJson configType { key description } } } } } } } }"""
RUN_CONFIG = """query Schema($job: String!) { runConfigSchemaOrError(selector: {repositoryLocationName: "k2",
  repositoryName: "__repository__", pipelineName: $job}) { ... on RunConfigSchema { rootDefaultYaml allConfigTypes {
  key description ... on CompositeConfigType { fields { name defaultValueAsJson } } } } } }"""
INSTANCE = """{ instance { info runLauncher { name } runQueueConfig { maxConcurrentRuns }
  daemonHealth { allDaemonStatuses { daemonType lastHeartbeatErrors { message stack } } } }
  workspaceOrError { __typename ... on Workspace { locationEntries { name displayMetadata { key value } } } }
  utilizedEnvVarsOrError(repositorySelector: {repositoryLocationName: "k2", repositoryName: "__repository__"}) {
    ... on EnvVarWithConsumersList { results { envVarName envVarConsumers { name } } } } }"""
LAUNCH = """mutation Launch($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } } } }"""
RUN = """query Run($id: ID!) { runOrError(runId: $id) { ... on Run { status runConfigYaml tags { key value }
  eventConnection(limit: 1000) { events { __typename ... on MessageEvent { message }
  ... on ErrorEvent { error { message stack causes { message stack } } } } } } } }"""
TICKS = """{ sensorsOrError(repositorySelector: {repositoryLocationName: "k2", repositoryName: "__repository__"}) {
  ... on Sensors { results { name sensorState { ticks(limit: 5) {
  status error { message stack causes { message } } } } } } } }"""
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}


class Shown:
    """Dagster with planted passwords, and all that it was asked for."""

    def __init__(self, settings: Settings, webserver: Webserver) -> None:
        self.settings = settings
        self.webserver = webserver

    def ask(self, query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.webserver.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer
        return answer["data"]

    def jobs(self) -> list[str]:
        return [job["name"] for job in self.ask(JOBS)["repositoryOrError"]["jobs"]]

    def run(self, job: str) -> str:
        """Launch a run, which fails since nothing is where its settings say; its id once it has ended."""
        selector = {"repositoryLocationName": "k2", "repositoryName": "__repository__", "jobName": job}
        tags = [{"key": "dagster/partition", "value": "2026-11-20"}]
        params = {"selector": selector, "mode": "default", "executionMetadata": {"tags": tags}, "runConfigData": "{}"}
        launched = self.ask(LAUNCH, params=params)["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        run_id = str(launched["run"]["runId"])
        patient = Retrying(
            retry=retry_if_result(lambda status: status not in ENDED), wait=wait_fixed(1), stop=stop_after_delay(300)
        )
        assert patient(lambda: self.ask(RUN, id=run_id)["runOrError"]["status"]) == "FAILURE"
        return run_id


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    home = tmp_path_factory.mktemp("planted")
    names = ("kafka_port", "kafka_controller_port", "registry_port", "dagster_port", "code_server_port", "metrics_port")
    ports: dict[str, Any] = dict(zip(names, free_ports(len(names)), strict=True))
    settings = Settings(home=home, **ports, **PLANTED)  # type: ignore[arg-type]
    stack = LocalStack.of(settings)
    supervisor = Supervisor(home / "run", settings.log_directory, until_parent_ends=True)
    running = LocalStack(home, stack.services, supervisor)
    try:
        running.up(report=lambda line: None)
        (webserver,) = [each for each in stack.services if isinstance(each, Webserver)]
        yield Shown(settings, webserver)
    finally:
        running.down(report=lambda line: None)


def holds_a_secret(content: bytes) -> bool:
    return SECRET in content.replace(NO_SECRET, b"")


def test_graphql_answers_no_password_whatever_is_asked(shown: Shown) -> None:
    resources = shown.ask(RESOURCES)
    details = resources["allTopLevelResourceDetailsOrError"]["results"]
    values = {each["name"]: {v["key"]: (v["type"], v["value"]) for v in each["configuredValues"]} for each in details}
    assert values["iceberg"]["uri"] == ("ENV_VAR", "K2_CATALOG_URI")
    assert values["iceberg"]["warehouse"] == ("ENV_VAR", "K2_WAREHOUSE")
    assert values["registry"]["url"] == ("ENV_VAR", "K2_REGISTRY_URL")
    assert values["kafka"]["bootstrap_servers"] == ("ENV_VAR", "K2_KAFKA_BOOTSTRAP")
    assert values["alert_sink"]["webhook"] == ("ENV_VAR", "K2_ALERT_WEBHOOK")
    answers = [resources, shown.ask(INSTANCE), shown.ask(JOBS)]
    answers += [shown.ask(RUN_CONFIG, job=job) for job in shown.jobs()]
    assert SECRET not in json.dumps(answers).encode()


def test_runs_and_sensors_that_fail_for_want_of_all_of_it_tell_no_password(shown: Shown) -> None:
    runs = [shown.run(job) for job in ("sim_ingest", "sim_build")]
    patient = Retrying(retry=retry_if_result(lambda failed: not failed), wait=wait_fixed(1), stop=stop_after_delay(120))
    patient(lambda: "FAILURE" in json.dumps(shown.ask(TICKS)))
    told = [shown.ask(RUN, id=run_id) for run_id in runs] + [shown.ask(TICKS)]
    assert "ExecutionStepFailureEvent" in json.dumps(told)
    assert "planted-kafka.invalid:9092" in json.dumps(told), "the processes do not go by what was planted"
    assert not holds_a_secret(json.dumps(told).encode())
    debug = urllib.request.Request(f"{shown.webserver.url}/download_debug/{runs[0]}")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(debug, timeout=60) as response:
        assert not holds_a_secret(gzip.decompress(response.read()))


def test_no_command_line_no_log_and_no_record_holds_a_password(shown: Shown) -> None:
    lines = [" ".join(each.info["cmdline"] or []) for each in psutil.process_iter(["cmdline"])]
    assert not any(holds_a_secret(line.encode()) for line in lines)
    files = [path for path in shown.settings.home.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in files)
    assert any(path.name == "k2.jsonl" for path in files)
    assert [path for path in files if holds_a_secret(_content(path))] == []


def _content(path: Path) -> bytes:
    """A file's bytes, and of a database's rows what is packed in them."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return b""  # a file of a run that has just ended
    return content + b"".join(_unpacked(path)) if path.suffix == ".db" else content


def _unpacked(path: Path) -> Iterator[bytes]:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in database.execute(f'SELECT * FROM "{table}"'):
                for value in row:
                    if isinstance(value, bytes):
                        with contextlib.suppress(zlib.error):
                            yield zlib.decompress(value)
