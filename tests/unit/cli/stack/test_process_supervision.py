import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from free_ports import free_ports
from repository import REPOSITORY
from script_service import (
    DIES,
    NEVER_ANSWERS,
    SERVER,
    SERVER_THAT_REFUSES_TO_END,
    SERVER_WITH_A_CHILD,
    ScriptService,
)

from k2_cli.stack.port_owners import is_taken
from k2_cli.stack.process_supervision import PortTakenError, ServiceError, ServiceState, Supervisor


@pytest.fixture
def supervisor(tmp_path: Path) -> Supervisor:
    return Supervisor(tmp_path / "run", tmp_path / "logs", until_parent_ends=True)


@pytest.fixture
def service(supervisor: Supervisor) -> Iterator[ScriptService]:
    service = ScriptService(free_ports(1)[0])
    yield service
    supervisor.stop(service)


@pytest.fixture
def stranger(service: ScriptService) -> Iterator[subprocess.Popen[bytes]]:
    """A process that K2 did not start, on the service's port."""
    script = textwrap.dedent(SERVER).replace("{port}", str(service.port))
    process = subprocess.Popen([sys.executable, "-c", script])
    while not is_taken(service.port):
        assert process.poll() is None
    yield process
    process.kill()
    process.wait()


def test_a_started_service_runs_in_a_session_of_its_own_and_is_known_again(
    supervisor: Supervisor, service: ScriptService
) -> None:
    assert supervisor.status(service).state is ServiceState.STOPPED
    status = supervisor.start(service)
    assert status.state is ServiceState.RUNNING
    assert os.getsid(status.pid) == status.pid
    assert psutil.Process(status.pid).environ()["COLOUR"] == "blue"
    assert Supervisor(supervisor.record_directory, supervisor.log_directory).status(service) == status


def test_starting_what_runs_leaves_it_alone(supervisor: Supervisor, service: ScriptService) -> None:
    assert supervisor.start(service) == supervisor.start(service)


def test_stopping_ends_the_service_and_all_that_it_started(supervisor: Supervisor, service: ScriptService) -> None:
    parent = replace(service, script=SERVER_WITH_A_CHILD)
    status = supervisor.start(parent)
    child = int(supervisor.log_path(parent).read_text(encoding="utf-8").split()[1])
    assert supervisor.stop(parent)
    assert not psutil.pid_exists(status.pid)
    assert not _runs(child)
    assert supervisor.status(parent).state is ServiceState.STOPPED


def test_children_left_behind_by_a_killed_service_are_stopped_too(
    supervisor: Supervisor, service: ScriptService
) -> None:
    parent = replace(service, script=SERVER_WITH_A_CHILD)
    status = supervisor.start(parent)
    child = int(supervisor.log_path(parent).read_text(encoding="utf-8").split()[1])
    _kill(status.pid)
    assert _runs(child)
    assert not supervisor.stop(parent)
    assert not _runs(child)


def test_children_of_an_earlier_start_are_stopped_with_the_service(
    supervisor: Supervisor, service: ScriptService
) -> None:
    parent = replace(service, script=SERVER_WITH_A_CHILD)
    _kill(supervisor.start(parent).pid)
    child = int(supervisor.log_path(parent).read_text(encoding="utf-8").split()[1])
    supervisor.start(service)
    assert _runs(child)
    assert supervisor.stop(service)
    assert not _runs(child)


def test_a_service_that_runs_but_does_not_answer_is_reported_and_left_running(
    supervisor: Supervisor, service: ScriptService
) -> None:
    status = supervisor.start(service)
    with pytest.raises(ServiceError, match=rf"pid {status.pid}\) did not answer"):
        supervisor.start(replace(service, port=free_ports(1)[0], start_timeout_seconds=0.2))
    assert supervisor.status(service) == status


def test_a_service_that_ignores_being_asked_is_killed(supervisor: Supervisor, service: ScriptService) -> None:
    stubborn = replace(service, script=SERVER_THAT_REFUSES_TO_END, stop_timeout_seconds=0.2)
    status = supervisor.start(stubborn)
    assert supervisor.stop(stubborn)
    assert not psutil.pid_exists(status.pid)


def test_signals_that_the_starter_ignores_are_not_ignored_by_the_service(
    supervisor: Supervisor, service: ScriptService
) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        status = supervisor.start(service)
    finally:
        signal.signal(signal.SIGINT, before)
    os.kill(status.pid, signal.SIGINT)
    psutil.Process(status.pid).wait(5)


def test_a_service_that_ended_by_itself_is_stale_and_starts_again(
    supervisor: Supervisor, service: ScriptService
) -> None:
    first = supervisor.start(service)
    _kill(first.pid)
    stale = supervisor.status(service)
    assert stale.state is ServiceState.STALE
    assert f"pid {first.pid} ended" in stale.detail
    assert supervisor.start(service).pid != first.pid


def test_a_record_whose_id_now_belongs_to_another_process_is_stale_and_that_process_is_left_alone(
    supervisor: Supervisor, service: ScriptService
) -> None:
    other = subprocess.Popen([sys.executable, "-c", NEVER_ANSWERS], start_new_session=True)
    try:
        supervisor.record_directory.mkdir(parents=True)
        record = {"pid": other.pid, "created": 1_000_000_000.0, "command": ["java", "kafka.Kafka"]}
        (supervisor.record_directory / "script.json").write_text(json.dumps(record), encoding="utf-8")
        assert supervisor.status(service).state is ServiceState.STALE
        assert not supervisor.stop(service)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_stranger_on_the_port_is_named_and_nothing_is_started(
    supervisor: Supervisor, service: ScriptService, stranger: subprocess.Popen[bytes]
) -> None:
    status = supervisor.status(service)
    assert (status.state, status.pid) == (ServiceState.FOREIGN, stranger.pid)
    with pytest.raises(PortTakenError, match=rf"port {service.port} .*pid {stranger.pid} .*K2_SCRIPT_PORT"):
        supervisor.start(service)
    assert stranger.poll() is None
    assert not supervisor.log_path(service).exists()


def test_a_service_that_dies_while_starting_is_reported_with_its_last_words(
    supervisor: Supervisor, service: ScriptService
) -> None:
    with pytest.raises(ServiceError, match=r"ended while starting[\s\S]*no such setting: colour"):
        supervisor.start(replace(service, script=DIES))
    assert supervisor.status(service).state is ServiceState.STOPPED


def test_a_service_that_never_answers_is_stopped_and_reported(supervisor: Supervisor, service: ScriptService) -> None:
    with pytest.raises(ServiceError, match="did not answer within 1 s"):
        supervisor.start(replace(service, script=NEVER_ANSWERS, start_timeout_seconds=0.6))
    assert supervisor.status(service).state is ServiceState.STOPPED


def test_a_disk_that_takes_nothing_more_is_reported_with_the_service(
    supervisor: Supervisor, service: ScriptService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: Path, *_arguments: object, **_keywords: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(ServiceError, match=r"script can't be started: .*No space left on device"):
        supervisor.start(service)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_services_of_tests_end_when_the_tests_are_killed(tmp_path: Path, service: ScriptService) -> None:
    starter = f"""
        import sys, time
        sys.path[:0] = {[str(REPOSITORY), str(REPOSITORY / "tests" / "unit")]!r}
        from pathlib import Path
        from k2_cli.stack.process_supervision import Supervisor
        from script_service import ScriptService
        supervisor = Supervisor(Path({str(tmp_path)!r}), Path({str(tmp_path)!r}), until_parent_ends=True)
        print(supervisor.start(ScriptService({service.port})).pid, flush=True)
        time.sleep(600)
    """
    tests = subprocess.Popen([sys.executable, "-c", textwrap.dedent(starter)], stdout=subprocess.PIPE, text=True)
    assert tests.stdout is not None
    process = psutil.Process(int(tests.stdout.readline()))
    tests.kill()
    tests.wait()
    tests.stdout.close()
    psutil.wait_procs([process], 5)
    assert not process.is_running()


def _kill(pid: int) -> None:
    process = psutil.Process(pid)
    process.kill()
    process.wait(5)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
