import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from forged_requests import CCOMPAT, EVIL, REGISTRY_JSON, Answer, Forged, requests_of_the_registry, send
from free_ports import free_ports
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from k2_cli.stack.health_probes import http_answers
from k2_cli.stack.java_artifacts import JavaArtifacts
from k2_cli.stack.process_supervision import ServiceState, Supervisor
from k2_cli.stack.registry_process import LocalRegistry
from k2_resources.kafka.schema_registry import SchemaRegistry

PASSWORD = "QUARKUS_SECURITY_USERS_EMBEDDED_USERS_K2"
SCHEMA = {"type": "record", "name": "Tick", "fields": [{"name": "price", "type": "long"}]}
BODY = json.dumps({"schema": json.dumps(SCHEMA)})


def behind(registry: LocalRegistry, supervisor: Supervisor) -> psutil.Process:
    """The registry itself, which its guard has started."""
    guard = psutil.Process(supervisor.status(registry).pid)
    (child,) = guard.children()
    return child


def listening(process: psutil.Process) -> list[tuple[str, int]]:
    return [(each.laddr.ip, each.laddr.port) for each in process.net_connections() if each.status == psutil.CONN_LISTEN]


def told(port: int) -> list[bytes]:
    """All that a forged request might change: subjects, artifacts, compatibility."""
    paths = (f"{CCOMPAT}/subjects?deleted=true", f"{CCOMPAT}/config", "/apis/registry/v3/search/artifacts")
    answers = [send(port, Forged("client", "GET", path)) for path in paths]
    assert [answer.status for answer in answers] == [200] * len(paths)
    return [answer.body for answer in answers]


def test_no_page_of_another_site_reads_or_changes_the_registry(registry: LocalRegistry) -> None:
    SchemaRegistry(registry.url).register("kept-value", SCHEMA)
    before, asked = told(registry.port), list(requests_of_the_registry("kept-value"))
    assert len(asked) > 50
    assert [each for each in asked if send(registry.port, each).status < 400] == []
    assert told(registry.port) == before


def test_the_registry_itself_listens_at_one_port_of_loopback_and_answers_nobody_there(
    registry: LocalRegistry, supervisor: Supervisor
) -> None:
    before = told(registry.port)
    ((address, port),) = listening(behind(registry, supervisor))
    assert address.removeprefix("::ffff:") == "127.0.0.1"
    own = {"Content-Type": REGISTRY_JSON}
    asked = [
        *requests_of_the_registry("kept-value"),
        *(Forged("read", "GET", path) for path in ("/", "/apis", f"{CCOMPAT}/subjects", "/q/health", "/metrics")),
        Forged("read", "GET", "/apis/registry/v3/system/info"),
        Forged("write", "POST", f"{CCOMPAT}/subjects/forged-value/versions", own, BODY),
        Forged("wrong password", "GET", f"{CCOMPAT}/subjects", {"Authorization": "Basic azI6azI="}),
    ]
    answers = [send(port, each) for each in asked]
    assert {answer.status for answer in answers} == {401}
    assert not any(b"subject" in answer.body or b"apicurio" in answer.body.lower() for answer in answers)
    assert not any("access-control-allow-origin" in answer.headers for answer in answers)
    assert told(registry.port) == before


def test_the_registrys_password_stands_in_no_command_line_and_in_no_file(
    registry: LocalRegistry, supervisor: Supervisor
) -> None:
    password = behind(registry, supervisor).environ()[PASSWORD]
    assert len(password) >= 32
    lines = [" ".join(each.info["cmdline"] or []) for each in psutil.process_iter(["cmdline"])]
    assert not any(password in line for line in lines)
    files = [
        *registry.directory.rglob("*"),
        *supervisor.log_directory.rglob("*"),
        *supervisor.record_directory.rglob("*"),
    ]
    texts = [path.read_bytes() for path in files if path.is_file()]
    assert texts
    assert not any(password.encode() in text for text in texts)


@pytest.mark.parametrize("subject", ["a%2Fb-value", "%C3%A9-value", "a%20b-value", "a.b:c-value"])
def test_what_clients_ask_arrives_as_they_wrote_it(registry: LocalRegistry, subject: str) -> None:
    path = f"{CCOMPAT}/subjects/{subject}/versions"
    made = send(registry.port, Forged("client", "POST", path, {"Content-Type": REGISTRY_JSON}, BODY))
    assert made.status == 200, made.body
    assert json.loads(send(registry.port, Forged("client", "GET", f"{path}/latest")).body)["version"] == 1
    assert send(registry.port, Forged("client", "DELETE", f"{CCOMPAT}/subjects/{subject}")).status == 200


def test_answers_are_packed_for_those_alone_who_ask_for_it(registry: LocalRegistry) -> None:
    plain = send(registry.port, Forged("client", "GET", f"{CCOMPAT}/schemas/types"))
    packed = send(registry.port, Forged("client", "GET", f"{CCOMPAT}/schemas/types", {"Accept-Encoding": "gzip"}))
    assert "AVRO" in json.loads(plain.body)
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.body[:2] == b"\x1f\x8b"


def test_what_the_registry_refuses_is_told_with_its_own_status_and_words(registry: LocalRegistry) -> None:
    unknown = send(registry.port, Forged("client", "GET", f"{CCOMPAT}/schemas/ids/999999"))
    assert (unknown.status, json.loads(unknown.body)["error_code"]) == (404, 40403)
    wrong = send(
        registry.port, Forged("client", "POST", f"{CCOMPAT}/subjects/x/versions", {"Content-Type": REGISTRY_JSON}, "{")
    )
    assert 400 <= wrong.status < 500


class TestARegistryOfItsOwn:
    """One that may be killed."""

    @pytest.fixture
    def own(self, tmp_path: Path, java_artifacts: JavaArtifacts) -> Iterator[tuple[LocalRegistry, Supervisor]]:
        service = LocalRegistry(tmp_path / "registry", free_ports(1)[0], java_artifacts)
        supervisor = Supervisor(tmp_path / "run", tmp_path / "logs", until_parent_ends=True)
        with supervisor.running(service):
            yield service, supervisor

    def test_ends_with_its_guard_however_that_ends_and_keeps_its_schemas(
        self, own: tuple[LocalRegistry, Supervisor]
    ) -> None:
        service, supervisor = own
        schema_id = SchemaRegistry(service.url).register("kept-value", SCHEMA)
        child, guard = behind(service, supervisor), supervisor.status(service).pid
        assert guard is not None
        os.kill(guard, signal.SIGKILL)
        if sys.platform == "linux":
            psutil.wait_procs([child], timeout=30)
            assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
        supervisor.start(service)
        assert SchemaRegistry(service.url).writer_schemas([schema_id]) == {schema_id: SCHEMA}

    def test_takes_its_guard_along_when_it_ends(self, own: tuple[LocalRegistry, Supervisor]) -> None:
        service, supervisor = own
        behind(service, supervisor).kill()
        _wait_until(lambda: supervisor.status(service).state is ServiceState.STALE)
        assert "ended with exit code" in supervisor.log_path(service).read_text(encoding="utf-8")
        supervisor.start(service)

    def test_is_ended_by_the_next_guard_where_a_killed_one_left_it(
        self, own: tuple[LocalRegistry, Supervisor], tmp_path: Path
    ) -> None:
        service, supervisor = own
        supervisor.stop(service)
        left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        try:
            created = psutil.Process(left.pid).create_time()
            record = {"pid": left.pid, "created": created, "command": ["registry"]}
            (service.directory / "process.json").write_text(json.dumps(record), encoding="utf-8")
            supervisor.start(service)
            assert left.wait(timeout=30) == -signal.SIGKILL
        finally:
            left.kill()

    def test_may_run_elsewhere_and_share_its_guards_password(self, own: tuple[LocalRegistry, Supervisor]) -> None:
        service, supervisor = own
        child = behind(service, supervisor)
        ((_, port),) = listening(child)
        with _guard_of(f"http://127.0.0.1:{port}", child.environ()[PASSWORD]) as guard_port:
            client = Forged("client", "GET", f"{CCOMPAT}/subjects", {}, None, "registry-guard:8080")
            assert send(guard_port, client).status == 200
            assert send(guard_port, Forged("page", "GET", f"{CCOMPAT}/subjects", {"Origin": EVIL})).status == 403
            supervisor.stop(service)
            away: Answer = send(guard_port, client)
            assert away.status == 503
            assert "no answer" in json.loads(away.body)["message"]

    def test_url_that_clients_use_is_the_guards(self, own: tuple[LocalRegistry, Supervisor]) -> None:
        service, supervisor = own
        assert urlsplit(service.url).port == service.port
        assert ("127.0.0.1", service.port) in listening(psutil.Process(supervisor.status(service).pid))


@contextmanager
def _guard_of(url: str, password: str) -> Iterator[int]:
    """A guard in front of a registry that runs already, as in containers; its port."""
    (port,) = free_ports(1)
    environment = os.environ | {"K2_REGISTRY_PASSWORD": password, "K2_UI_HOSTS": "registry-guard"}
    command = [sys.executable, "-m", "k2_cli.stack.registry_guard", "--port", str(port), "--to", url]
    process = subprocess.Popen(command, env=environment)
    try:
        _wait_until(lambda: http_answers(f"http://127.0.0.1:{port}{CCOMPAT}/subjects"))
        yield port
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_until(holds) -> None:
    waiting = retry(retry=retry_if_result(lambda found: not found), wait=wait_fixed(0.1), stop=stop_after_delay(60))
    waiting(holds)()
