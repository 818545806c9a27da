"""Feeds of a test's own that never close, with a trade or a few waiting in the topic of each."""

import uuid
from pathlib import Path

from typer.testing import CliRunner, Result

from k2_cli.main import app
from k2_resources.settings import Settings

FILE = """
name = "{name}"
exchange = "X"
asset_class = "crypto"
timezone = "UTC"
calendar = "24/7"
start_date = 2026-11-01
currency = "USD"
[topics]
trades = "market.crypto.trades.{name}-{token}"
partitions = 1
"""
COLUMNS = "symbol,exchange_timestamp,price,quantity,trade_id"


def with_feeds(settings: Settings, directory: Path, **rows: list[str]) -> Settings:
    """Declare a feed for each name, and load its rows of CSV (``COLUMNS``).

    Returns:
        The settings, with the directory of these feeds' files.
    """
    feeds = directory / "feeds"
    feeds.mkdir()
    settings = settings.model_copy(update={"feeds_dir": feeds})
    for name, lines in rows.items():
        (feeds / f"{name}.toml").write_text(FILE.format(name=name, token=uuid.uuid4().hex[:8]), encoding="utf-8")
        file = directory / f"{name}.csv"
        file.write_text("\n".join([COLUMNS, *lines, ""]), encoding="utf-8")
        loaded = k2(settings, "load", "--feed", name, str(file))
        assert loaded.exit_code == 0, loaded.output
    return settings


def k2(settings: Settings, *arguments: str, **environment: str) -> Result:
    """Run a command of K2 in this process."""
    return CliRunner().invoke(app, arguments, env={**settings.environment_variables(), **environment})
