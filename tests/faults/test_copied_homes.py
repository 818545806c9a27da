"""A home that was copied while nothing ran, then used at both places: the copy changes nothing of the original's."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from catching_up import catch_up, ingest, reaches_no_lag
from checker import assert_nothing_lost_or_doubled
from fault_tally import FaultTally
from own_feeds import OwnFeed, own_feed
from trade_batches import DAY, split

from k2_resources.iceberg.catalog import open_catalog
from k2_resources.iceberg.owned_catalog import ForeignTable
from k2_resources.maintenance.orphan_cleaner import OrphanCleaner

pytestmark = pytest.mark.slow

ROUNDS = 3


@pytest.mark.parametrize("shared", [False, True], ids=["own warehouse", "shared warehouse"])
def test_a_copied_home_that_ingests_builds_and_cleans_leaves_the_original_whole_and_going_on(
    tmp_path: Path, kafka, registry, tally: FaultTally, shared: bool
) -> None:
    own = own_feed(tmp_path, kafka.bootstrap_servers, registry.url)
    producer = own.producer()
    first, *rounds = split(own.trades(800), *[200] * ROUNDS)
    producer.send(first)
    producer.flush()
    assert catch_up(own).failed == 0
    copied = copy_of(own, tmp_path / "copied", shared=shared)
    for number, batch in enumerate(rounds):
        producer.send(batch)
        producer.flush()
        before = files_below(own.settings.home)
        assert "another home's table" in " ".join(ingest(copied).errors)
        with pytest.raises(ForeignTable):
            clean(copied, 25.0 * (number + 1))
        assert files_below(own.settings.home) == before
        reaches_no_lag(own)
    assert catch_up(own).failed == 0
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally, days=[DAY])
    tally.injected("K14")


def copy_of(own: OwnFeed, place: Path, *, shared: bool) -> OwnFeed:
    shutil.copytree(own.settings.home, place)
    warehouse = own.settings.iceberg_warehouse if shared else None
    return replace(own, settings=own.settings.model_copy(update={"home": place, "warehouse": warehouse}))


def clean(own: OwnFeed, hours: float) -> None:
    catalog = open_catalog(own.settings.iceberg_catalog_uri, own.settings.iceberg_warehouse)
    now = datetime.now(UTC) + timedelta(hours=hours)
    OrphanCleaner(catalog, timedelta(hours=24), lambda _: now).clean(own.feed.name, "raw_trades")


def files_below(directory: Path) -> dict[Path, tuple[int, int]]:
    return {
        path: (path.stat().st_mtime_ns, path.stat().st_size)
        for path in directory.rglob("*")
        if path.is_file() and path.suffix in (".parquet", ".avro", ".json", ".db")
    }
