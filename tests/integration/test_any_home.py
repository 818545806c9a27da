"""A home whose path has any character works like any other: tables are written, read, verified and cleaned in it."""

import json
import os
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from free_ports import free_ports
from raw_deliveries import DAY, delivered
from typer.testing import CliRunner

from k2_cli.main import app
from k2_cli.stack.java_artifacts import JavaArtifacts
from k2_cli.stack.kafka_process import LocalKafka
from k2_cli.stack.process_supervision import ServiceError, Supervisor
from k2_cli.stack.registry_process import LocalRegistry
from k2_market.feeds.feed import Topics
from k2_market.kinds.trades import TRADES
from k2_market.schemas.avro import TRADE, subject_of
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topic_creation import ensure_topic
from k2_resources.maintenance.orphan_cleaner import OrphanCleaner
from k2_resources.maintenance.raw_compaction import RawCompactor
from k2_resources.raw.table import RawTable
from k2_resources.settings import Settings

NAMES = ["a#b", "a?b", "a%23b%", "a b", "ä@:;&=+,'$!", "a[b]*c{d}", "back\\slash", "a?b#c%3F;d"]


@pytest.mark.parametrize("name", NAMES)
def test_tables_are_written_read_verified_and_cleaned(tmp_path: Path, name: str) -> None:
    settings = Settings(home=tmp_path / name, kafka_bootstrap="127.0.0.1:1", registry_url="http://127.0.0.1:1")
    catalog = open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)
    for start in (0, 3):
        RawTable(catalog, "asx", TRADES).commit(delivered(start, start + 3))
    RawCompactor(catalog, "asx", TRADES, lambda days: days).compact()
    OrphanCleaner(catalog, timedelta(hours=24)).clean("asx", "raw_trades")
    assert RawTable(catalog, "asx", TRADES).view().read_day(DAY).num_rows == 6
    counted = k2(settings, "sql", "SELECT count(*) AS n FROM asx.raw_trades", "--format", "json")
    assert (json.loads(counted.stdout), counted.stderr) == ([{"n": 6}], "")
    verified = k2(settings, "verify", "ledger", "--feed", "asx", "--offline")
    assert verified.exit_code == 0, verified.output
    assert [each.name for each in tmp_path.iterdir()] == [name]


def k2(settings: Settings, *arguments: str) -> Any:
    environment = {**settings.environment_variables(), "K2_LOG_FORMAT": "json"}
    return CliRunner().invoke(app, arguments, env=environment)


def test_a_path_that_duckdb_can_not_be_given_is_refused_by_its_name(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / 'a"b', kafka_bootstrap="127.0.0.1:1", registry_url="http://127.0.0.1:1")
    RawTable(open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse), "asx", TRADES).commit(
        delivered(0, 3)
    )
    refused = k2(settings, "sql", "SELECT count(*) AS n FROM asx.raw_trades")
    assert refused.exit_code == 1
    assert "asx.raw_trades: DuckDB reads no table below a path with a double quote" in refused.stderr


@pytest.mark.parametrize("character", ["?", "[", "]", "\\"])
def test_a_path_that_the_registry_can_not_run_in_is_refused_by_the_character(tmp_path: Path, character: str) -> None:
    home = tmp_path / f"a{character}b"
    with pytest.raises(ServiceError, match=r"registry: .* can't run below a path with .*; set K2_HOME"):
        LocalRegistry(home / "registry", 1, JavaArtifacts(home / "java")).prepare()
    assert not home.exists()


@pytest.mark.slow
def test_kafka_and_the_registry_run_in_it(tmp_path: Path, java_artifacts: JavaArtifacts) -> None:
    home = tmp_path / "a #%:;,ä*'{}|^`$&b"
    home.mkdir()
    shutil.copytree(java_artifacts.directory.resolve(), home / "java", copy_function=os.link)
    ports = free_ports(3)
    supervisor = Supervisor(home / "run", home / "logs", until_parent_ends=True)
    kafka = LocalKafka(home / "kafka", ports[0], ports[1], JavaArtifacts(home / "java"), heap_mebibytes=512)
    registry = LocalRegistry(home / "registry", ports[2], JavaArtifacts(home / "java"))
    for _ in range(2):  # the second time on what the first has left
        with supervisor.running(kafka), supervisor.running(registry):
            ensure_topic(kafka.bootstrap_servers, "any.home", Topics(trades="any.home", partitions=1))
            SchemaRegistry(registry.url).register(subject_of("any.home"), TRADE)
    assert (home / "kafka" / "data" / "any.home-0").is_dir()
    assert (home / "registry" / "schemas.mv.db").is_file()
    assert [each.name for each in tmp_path.iterdir()] == [home.name]
