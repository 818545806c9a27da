import fcntl
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from pathlib import Path

import psutil
import pytest
import yaml
from dagster._core.storage.event_log import SqliteEventLogStorage
from free_ports import free_ports
from repository import REPOSITORY
from script_service import DIES, SERVER, ScriptService
from typer.testing import CliRunner

from k2_cli.main import app
from k2_cli.output.stack_status import PlatformStatus, as_json_text
from k2_cli.stack.dagster_processes import CodeServer, Daemon, Webserver
from k2_cli.stack.kafka_process import LocalKafka
from k2_cli.stack.local_stack import LocalStack
from k2_cli.stack.process_supervision import Command, PortTakenError, ServiceError, ServiceState, Supervisor
from k2_cli.stack.registry_process import LocalRegistry
from k2_cli.stack.started_feeds import changes_since_start
from k2_platform.dagster_storage import DagsterHome
from k2_resources.settings import Settings


@dataclass(frozen=True)
class NotedService(ScriptService):
    """A script service that notes when it is prepared, and what runs at that moment."""

    notes: list[str] = field(default_factory=list)

    def prepare(self) -> Command:
        self.notes.append(self.name)
        return super().prepare()

    def is_healthy(self, since: datetime, /) -> bool:
        healthy = super().is_healthy(since)
        if healthy and self.notes[-1] == self.name:
            self.notes.append(f"{self.name} answers")
        return healthy


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def stack(tmp_path: Path, notes: list[str]) -> LocalStack:
    ports = free_ports(3)
    names = ("kafka", "registry", "webserver")
    services = tuple(NotedService(port, SERVER, name, notes=notes) for name, port in zip(names, ports, strict=True))
    supervisor = Supervisor(tmp_path / "run", tmp_path / "logs", until_parent_ends=True)
    return LocalStack(tmp_path, services, supervisor)


def ignore(_line: str) -> None:
    pass


def states(stack: LocalStack) -> list[ServiceState]:
    return [status.state for status in stack.status()]


def test_each_service_is_started_when_the_one_before_it_answers(stack: LocalStack, notes: list[str]) -> None:
    try:
        assert stack.up(ignore) == ["kafka", "registry", "webserver"]
        assert notes == ["kafka", "kafka answers", "registry", "registry answers", "webserver", "webserver answers"]
    finally:
        stack.down(ignore)


def test_a_second_up_starts_nothing_and_a_second_down_stops_nothing(stack: LocalStack) -> None:
    lines: list[str] = []
    try:
        stack.up(ignore)
        before = stack.status()
        assert stack.up(ignore) == []
        assert stack.status() == before
    finally:
        stack.down(lines.append)
    assert lines == ["webserver: stopped", "registry: stopped", "kafka: stopped"]
    lines.clear()
    stack.down(lines.append)
    assert lines == []
    assert states(stack) == [ServiceState.STOPPED] * 3


def test_ports_that_are_taken_are_all_named_before_anything_is_started(
    stack: LocalStack, tmp_path: Path, notes: list[str]
) -> None:
    _, registry, webserver = stack.services
    strangers = Supervisor(tmp_path / "elsewhere", tmp_path / "elsewhere", until_parent_ends=True)
    with strangers.running(registry), strangers.running(webserver):
        notes.clear()
        with pytest.raises(PortTakenError) as refusal:
            stack.up(ignore)
        assert f"registry: port {registry.ports[0].number} is taken" in str(refusal.value)
        assert f"webserver: port {webserver.ports[0].number} is taken" in str(refusal.value)
        assert notes == []


def test_feed_files_that_changed_have_their_readers_restarted_and_nothing_else(
    tmp_path: Path, notes: list[str]
) -> None:
    feeds, names = tmp_path / "feeds", ("kafka", "code-server", "daemon")
    feeds.mkdir()
    services = tuple(
        NotedService(port, SERVER, name, notes=notes) for name, port in zip(names, free_ports(3), strict=True)
    )
    supervisor = Supervisor(tmp_path / "run", tmp_path / "logs", until_parent_ends=True)
    stack = LocalStack(tmp_path, services, supervisor, (feeds,))
    lines: list[str] = []
    try:
        stack.up(ignore)
        assert stack.up(lines.append) == []
        (feeds / "us.toml").write_text("name = 1", encoding="utf-8")
        assert changes_since_start(tmp_path, (feeds,)) == ("us.toml was added",)

        assert stack.up(lines.append) == ["code-server", "daemon"]

        assert lines[:3] == [
            "feed files: us.toml was added; what has read them is restarted",
            "daemon: stopped",
            "code-server: stopped",
        ]
        assert changes_since_start(tmp_path, (feeds,)) == ()
        assert stack.up(ignore) == []
        (feeds / "us.toml").unlink()
    finally:
        stack.down(ignore)
    assert changes_since_start(tmp_path, (feeds,)) == ()  # nothing runs that would have to know


def test_what_came_up_before_a_failure_keeps_running(stack: LocalStack) -> None:
    first, second, _ = stack.services
    broken = ScriptService(second.ports[0].number, DIES, "registry")
    half = LocalStack(stack.home, (first, broken), stack.supervisor)
    try:
        with pytest.raises(ServiceError, match="registry ended while starting"):
            half.up(ignore)
        assert states(half) == [ServiceState.RUNNING, ServiceState.STOPPED]
    finally:
        half.down(ignore)


def test_two_commands_do_not_work_on_one_home_at_once(stack: LocalStack) -> None:
    directory = stack.supervisor.record_directory
    directory.mkdir(parents=True)
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ServiceError, match="another `k2 up` or `k2 down` is at work"):
            stack.down(ignore)


def test_a_home_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file in the way", encoding="utf-8")
    with pytest.raises(ServiceError, match=r"home/run: can't be written.*K2_HOME"):
        LocalStack.of(Settings(home=tmp_path / "home")).up(ignore)


class TestTheStackOfTheSettings:
    def test_starts_the_broker_first_and_what_looks_at_all_the_rest_last(self, tmp_path: Path) -> None:
        names = [service.name for service in LocalStack.of(Settings(home=tmp_path)).services]
        assert names == ["kafka", "registry", "code-server", "webserver", "daemon", "exporter"]

    def test_leaves_out_what_a_setting_points_elsewhere(self, tmp_path: Path) -> None:
        settings = Settings(home=tmp_path, kafka_bootstrap="broker:9092", registry_url="http://registry:8080")
        names = [service.name for service in LocalStack.of(settings).services]
        assert "kafka" not in names
        assert "registry" not in names

    def test_takes_ports_from_the_settings_that_its_messages_name(self, tmp_path: Path) -> None:
        settings = Settings(home=tmp_path)
        for service in LocalStack.of(settings).services:
            for port in service.ports:
                assert port.number == getattr(settings, port.setting.removeprefix("K2_").lower())

    def test_can_be_narrowed_to_services_and_what_they_need(self, tmp_path: Path) -> None:
        stack = LocalStack.of(Settings(home=tmp_path))
        names = [service.name for service in stack.only(["daemon", "kafka"]).services]
        assert names == ["kafka", "code-server", "webserver", "daemon"]

    def test_knows_no_other_service(self, tmp_path: Path) -> None:
        with pytest.raises(ServiceError, match=r"'zookeeper' is no service .*kafka, registry"):
            LocalStack.of(Settings(home=tmp_path)).only(["zookeeper"])

    def test_tells_every_process_of_dagster_which_home_and_settings_to_use(self, tmp_path: Path) -> None:
        settings = Settings(home=tmp_path, kafka_port=29092, alert_webhook="https://hooks.example/T000")
        for service in LocalStack.of(settings).services:
            if isinstance(service, Webserver | Daemon):
                environment = service.prepare().environment
                assert environment["DAGSTER_HOME"] == str(tmp_path / "dagster")
                assert environment["K2_KAFKA_PORT"] == "29092"
                assert environment["K2_ALERT_WEBHOOK"] == "https://hooks.example/T000"

    def test_listens_on_loopback_alone(self, tmp_path: Path) -> None:
        for service in LocalStack.of(Settings(home=tmp_path)).services:
            if isinstance(service, LocalKafka | LocalRegistry | CodeServer):
                continue  # looked at while they run, in tests/integration
            assert "0.0.0.0" not in service.prepare().arguments


class TestWhatRunsThoughSettingsHaveChanged:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Iterator[Settings]:
        """Those of a home in which a service named kafka was started."""
        settings = Settings(home=tmp_path)
        supervisor = Supervisor(tmp_path / "run", settings.log_directory, until_parent_ends=True)
        with supervisor.running(ScriptService(free_ports(1)[0], SERVER, "kafka")):
            yield settings

    @pytest.mark.parametrize("name", ["kafka_bootstrap", "registry_url"])
    def test_is_stopped_though_a_setting_points_elsewhere_by_now(self, settings: Settings, name: str) -> None:
        moved = settings.model_copy(update={name: "elsewhere:9092"})
        lines: list[str] = []
        LocalStack.to_stop(moved).down(lines.append)
        assert lines == ["kafka: stopped"]

    def test_is_stopped_though_a_feeds_file_is_wrong_by_now(self, settings: Settings, tmp_path: Path) -> None:
        (tmp_path / "feeds").mkdir()
        (tmp_path / "feeds" / "broken.toml").write_text("name = ", encoding="utf-8")
        lines: list[str] = []
        LocalStack.to_stop(settings.model_copy(update={"feeds_dir": tmp_path / "feeds"})).down(lines.append)
        assert lines == ["kafka: stopped"]

    def test_is_shown_for_as_long_as_it_runs(self, settings: Settings) -> None:
        moved = settings.model_copy(update={"kafka_bootstrap": "broker:9092"})
        states = {each.name: each.state for each in LocalStack.to_show(moved).status()}
        assert states["kafka"] is ServiceState.RUNNING
        LocalStack.to_stop(moved).down(ignore)
        assert "kafka" not in [each.name for each in LocalStack.to_show(moved).status()]


def test_status_is_exit_code_1_where_a_part_has_ended_without_being_stopped(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "k2", kafka_port=free_ports(1)[0])
    supervisor = Supervisor(settings.home / "run", settings.log_directory, until_parent_ends=True)
    status = supervisor.start(ScriptService(settings.kafka_port, SERVER, "kafka"))
    assert status.pid is not None

    def shown() -> tuple[int, str]:
        result = CliRunner().invoke(app, ["status", "--json"], env=settings.environment_variables())
        return result.exit_code, result.stderr

    psutil.Process(status.pid).kill()
    psutil.Process(status.pid).wait(10)

    assert shown() == (1, "kafka ended without being stopped; `k2 up` starts it again.\n")
    LocalStack.to_stop(settings).down(ignore)
    assert shown() == (0, "")


def test_status_makes_no_home_and_says_that_there_is_none(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "k2")

    result = CliRunner().invoke(app, ["status"], env=settings.environment_variables())

    assert (result.exit_code, (tmp_path / "k2").exists()) == (0, False)
    assert f"There is no K2 home at {tmp_path / 'k2'} yet" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["sql", "SELECT 1"],
        ["bars", "BHP", "--feed", "asx", "--date", "2014-03-10"],
        ["days", "--feed", "asx"],
        ["logs"],
        ["verify", "ledger", "--feed", "asx"],
    ],
)
def test_commands_that_read_make_no_home_and_say_where_they_looked(tmp_path: Path, command: list[str]) -> None:
    settings = Settings(home=tmp_path / "k2")

    result = CliRunner().invoke(app, command, env=settings.environment_variables())

    assert (result.exit_code, (tmp_path / "k2").exists()) == (1, False)
    assert f"there is no K2 home at {tmp_path / 'k2'}. K2_HOME says where it is" in result.stderr


def test_dagsters_home_gets_our_settings_and_the_code_servers_address(tmp_path: Path) -> None:
    home = DagsterHome(tmp_path / "dagster", 24266, {})
    home.write()
    home.write()
    shipped = REPOSITORY / "k2_platform" / "dagster.yaml"
    written = (home.directory / "dagster.yaml").read_text(encoding="utf-8")
    assert written.startswith(shipped.read_text(encoding="utf-8"))
    storage = yaml.safe_load(written)["event_log_storage"]
    assert storage["config"] == {"base_dir": str(home.directory / "history" / "runs")}
    assert issubclass(getattr(import_module(storage["module"]), storage["class"]), SqliteEventLogStorage)
    assert "port: 24266" in home.workspace.read_text(encoding="utf-8")


def test_status_as_json_holds_what_programs_need(stack: LocalStack) -> None:
    first = LocalStack(stack.home, stack.services[:1], stack.supervisor)
    try:
        first.up(ignore)
        (kafka, registry, _) = json.loads(as_json_text(PlatformStatus(stack.status())))["services"]
        assert list(kafka) == ["name", "state", "pid", "port", "url", "since"]
        assert (kafka["name"], kafka["state"]) == ("kafka", "running")
        assert datetime.fromisoformat(kafka["since"]).utcoffset() is not None
        assert (registry["state"], registry["pid"], registry["since"]) == ("stopped", None, None)
    finally:
        first.down(ignore)
