"""A home whose path has any character works like any other: tables are written, read, verified and cleaned in it."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from raw_deliveries import DAY, delivered
from typer.testing import CliRunner

from k2_cli.main import app
from k2_resources.iceberg_catalog import open_catalog
from k2_resources.orphan_cleaner import OrphanCleaner
from k2_resources.raw_compaction import RawCompactor
from k2_resources.raw_table import RawTable
from k2_resources.settings import Settings

NAMES = ["a#b", "a?b", "a%23b%", "a b", "ä@:;&=+,'\"$!", "a[b]*c{d}", "back\\slash", "a?b#c%3F;d"]


@pytest.mark.parametrize("name", NAMES)
def test_tables_are_written_read_verified_and_cleaned(tmp_path: Path, name: str) -> None:
    settings = Settings(home=tmp_path / name, kafka_bootstrap="127.0.0.1:1", registry_url="http://127.0.0.1:1")
    catalog = open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)
    for start in (0, 3):
        RawTable(catalog, "asx").commit(delivered(start, start + 3))
    RawCompactor(catalog, "asx", lambda days: days).compact()
    OrphanCleaner(catalog, timedelta(hours=24)).clean("asx", "raw_trades")
    assert RawTable(catalog, "asx").view().read_day(DAY).num_rows == 6
    counted = k2(settings, "sql", "SELECT count(*) AS n FROM asx.raw_trades", "--format", "json")
    assert (json.loads(counted.stdout), counted.stderr) == ([{"n": 6}], "")
    verified = k2(settings, "verify", "ledger", "--feed", "asx", "--offline")
    assert verified.exit_code == 0, verified.output
    assert [each.name for each in tmp_path.iterdir()] == [name]


def k2(settings: Settings, *arguments: str) -> Any:
    environment = {**settings.environment_variables(), "K2_LOG_FORMAT": "json"}
    return CliRunner().invoke(app, arguments, env=environment)
