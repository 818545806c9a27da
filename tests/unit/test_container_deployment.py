import os
import re
import shutil
import subprocess
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from repository import REPOSITORY

from k2_cli.stack.registry_process import FOR_ITS_GUARD_ALONE, USER
from k2_market.browser_requests import Authority, OwnHosts

COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def compose_tool() -> list[str] | None:
    for command in (["docker", "compose"], ["docker-compose"]):
        if (
            shutil.which(command[0])
            and subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0
        ):
            return command
    return None


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned_to_a_version(name: str) -> None:
    assert re.search(r":v?\d+\.\d+(\.\d+)?$", SERVICES[name]["image"])


def test_the_base_of_our_own_image_is_pinned_to_a_version() -> None:
    dockerfile = (REPOSITORY / "deploy/container/Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE) == ["python:3.12.12-slim-bookworm"]


def test_kafka_is_the_version_that_the_local_stack_runs() -> None:
    lock = (REPOSITORY / "k2_cli/stack/files/jars.lock.json").read_text(encoding="utf-8")
    for image, artifact in (
        (SERVICES["kafka"]["image"], "kafka_2.13"),
        (SERVICES["registry"]["image"], "apicurio-registry-app"),
    ):
        version = image.rpartition(":")[2]
        assert re.search(rf'"artifact": "{re.escape(artifact)}",\s+"version": "{re.escape(version)}"', lock)


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_alone(name: str) -> None:
    assert all(str(port).startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "initialise"])
def test_every_service_that_stays_is_checked_for_health(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_services_that_exist_in_a_way_that_they_can_fulfil(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        expected = "service_completed_successfully" if other == "initialise" else "service_healthy"
        assert how == {"condition": expected}
        assert other in SERVICES


@pytest.mark.parametrize("name", SERVICES)
def test_volumes_are_declared_or_lie_in_the_repository(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source = volume.split(":")[0]
        assert source in COMPOSE["volumes"] or (REPOSITORY / source).is_file()


def test_what_is_published_is_guarded_or_speaks_no_http() -> None:
    published = {name for name, service in SERVICES.items() if service.get("ports")}
    assert published == {"kafka", "registry-guard", "webserver", "exporter"}
    commands = {name: SERVICES[name]["command"][:3] for name in published - {"kafka"}}
    assert commands == {
        "registry-guard": ["python", "-m", "k2_cli.stack.registry_guard"],
        "webserver": ["python", "-m", "k2_cli.stack.guarded_webserver"],
        "exporter": ["python", "-m", "k2_platform.metrics_exporter"],
    }
    for name in commands:
        assert SERVICES[name]["healthcheck"]["test"][:4] == ["CMD", "python", "-m", "k2_cli.stack.health_probes"], name


def test_the_registry_in_a_container_answers_its_guard_alone_as_on_a_laptop() -> None:
    environment = SERVICES["registry"]["environment"]
    for option, value in FOR_ITS_GUARD_ALONE.items():
        assert environment[re.sub(r"[.-]", "_", option).upper()] == value, option
    assert environment["QUARKUS_MANAGEMENT_HOST"] == "127.0.0.1"
    password = environment[f"QUARKUS_SECURITY_USERS_EMBEDDED_USERS_{USER.upper()}"]
    assert SERVICES["registry-guard"]["environment"]["K2_REGISTRY_PASSWORD"] == password
    assert not SERVICES["registry"].get("ports")


def test_containers_ask_guarded_ones_by_names_that_these_know() -> None:
    url = urlsplit(SERVICES["code-server"]["environment"]["K2_REGISTRY_URL"])
    assert url.hostname == "registry-guard"
    for name in ("registry-guard", "exporter"):
        hosts = SERVICES[name]["environment"]["K2_UI_HOSTS"]
        assert hosts.endswith(",${K2_UI_HOSTS:-}")
        assert Authority(name) in OwnHosts.parse(hosts.removesuffix("${K2_UI_HOSTS:-}"))


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_runs_a_webserver_of_dagsters_own(name: str) -> None:
    assert "dagster-webserver" not in str(SERVICES[name].get("command", ""))


def test_kafkas_data_lies_on_a_volume() -> None:
    kafka = SERVICES["kafka"]
    assert f"kafka-data:{kafka['environment']['KAFKA_LOG_DIRS']}" in kafka["volumes"]


def test_kafka_in_a_container_is_set_up_as_on_a_laptop() -> None:
    laptop = (REPOSITORY / "k2_cli/stack/files/server.properties").read_text(encoding="utf-8")
    for line in laptop.splitlines():
        key, _, value = line.partition("=")
        variable = f"KAFKA_{key.upper().replace('.', '_')}"
        if re.match(r"(offsets|transaction|share|group|auto|log\.retention)", key):
            assert str(SERVICES["kafka"]["environment"][variable]) == value, variable


def test_no_secret_has_a_value_in_the_file() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if "PASSWORD" in variable or variable.startswith("QUARKUS_SECURITY_USERS_EMBEDDED_USERS_"):
                assert re.match(r"^\$\{K2_POSTGRES_PASSWORD:\?.+\}$", str(value)), (name, variable)


def test_dagster_in_a_container_is_set_up_as_on_a_laptop_but_for_its_storage() -> None:
    laptop, container = (
        yaml.safe_load((REPOSITORY / where / "dagster.yaml").read_text(encoding="utf-8"))
        for where in ("k2_platform", "deploy/container")
    )
    assert container.pop("storage")["postgres"]["postgres_db"]["password"] == {"env": "K2_POSTGRES_PASSWORD"}
    assert container == laptop


def test_compose_itself_finds_the_file_valid() -> None:
    tool = compose_tool()
    if tool is None:
        pytest.skip("neither `docker compose` nor docker-compose is installed here")
    environment = os.environ | {"K2_POSTGRES_PASSWORD": "secret"}
    result = subprocess.run(
        [*tool, "config", "--quiet"], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_compose_refuses_to_start_without_a_password() -> None:
    tool = compose_tool()
    if tool is None:
        pytest.skip("neither `docker compose` nor docker-compose is installed here")
    environment = {name: value for name, value in os.environ.items() if name != "K2_POSTGRES_PASSWORD"}
    result = subprocess.run(
        [*tool, "config", "--quiet"], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
    assert "set a password for PostgreSQL" in result.stderr
