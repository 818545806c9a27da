"""What tests share: a real broker, a real registry, settings that point at both, and the real market data."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from free_ports import free_ports

from k2_cli.stack.java_artifacts import JavaArtifacts
from k2_cli.stack.kafka_process import LocalKafka
from k2_cli.stack.process_supervision import Supervisor
from k2_cli.stack.registry_process import LocalRegistry
from k2_resources.settings import Settings

# Machines are noisy and first examples import what they need: no property is about time.
hypothesis.settings.register_profile("drawn", deadline=None)
hypothesis.settings.register_profile("fixed", deadline=None, derandomize=True)
hypothesis.settings.load_profile("fixed" if "TEST_SEED" in os.environ else "drawn")

# Processes that tests start can be killed at a point of K2's code: tests/kill_switch/sitecustomize.py.
_KILL_SWITCH = str(Path(__file__).resolve().parent / "kill_switch")
os.environ["PYTHONPATH"] = os.pathsep.join([_KILL_SWITCH, *filter(None, [os.environ.get("PYTHONPATH")])])

_REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def java_artifacts() -> JavaArtifacts:
    """The Java programs, fetched into the checkout's own K2_HOME once and used by all tests."""
    return JavaArtifacts(Path(os.environ.get("K2_HOME", _REPOSITORY / ".k2")).absolute() / "java")


@pytest.fixture(scope="session")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Supervisor:
    """Starts services that end with the tests, even if the tests are killed."""
    directory = tmp_path_factory.mktemp("services")
    return Supervisor(directory / "run", directory / "logs", until_parent_ends=True)


@pytest.fixture(scope="session")
def kafka(
    tmp_path_factory: pytest.TempPathFactory, java_artifacts: JavaArtifacts, supervisor: Supervisor
) -> Iterator[LocalKafka]:
    """A broker of the whole test session (``.bootstrap_servers``); tests use topics with names of their own."""
    port, controller_port = free_ports(2)
    service = LocalKafka(tmp_path_factory.mktemp("kafka"), port, controller_port, java_artifacts, heap_mebibytes=512)
    with supervisor.running(service):
        yield service


@pytest.fixture(scope="session")
def registry(
    tmp_path_factory: pytest.TempPathFactory, java_artifacts: JavaArtifacts, supervisor: Supervisor
) -> Iterator[LocalRegistry]:
    """A schema registry of the whole test session (``.url``); tests use subjects with names of their own."""
    (port,) = free_ports(1)
    service = LocalRegistry(tmp_path_factory.mktemp("registry"), port, java_artifacts)
    with supervisor.running(service):
        yield service


@pytest.fixture
def stack_settings(tmp_path: Path, kafka: LocalKafka, registry: LocalRegistry) -> Settings:
    """Settings with a home of the test's own, pointing at the session's broker and registry."""
    return Settings(home=tmp_path / "k2", kafka_bootstrap=kafka.bootstrap_servers, registry_url=registry.url)


@pytest.fixture(scope="session")
def market_data() -> Path:
    """The directory of real market data."""
    directory = Path(os.environ.get("K2_TEST_DATA", _REPOSITORY.parent / "shared" / "data"))
    if not directory.is_dir():
        pytest.skip(f"the real market data is not there: {directory} (set K2_TEST_DATA)")
    return directory
