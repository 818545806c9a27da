"""Fixtures of Dagster's tests: a home without servers, the ASX feed, and an instance with records of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import DagsterInstance

from k2_market.feeds.feed import Feed, load_feeds
from k2_resources.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "k2", kafka_bootstrap="127.0.0.1:1", registry_url="http://127.0.0.1:1")


@pytest.fixture
def feed(settings: Settings) -> Feed:
    return load_feeds(settings.feed_directories)["asx"]


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[DagsterInstance]:
    (tmp_path / "dagster").mkdir()
    with DagsterInstance.local_temp(str(tmp_path / "dagster")) as made:
        yield made
