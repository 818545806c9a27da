"""Versions of days that are kept from tick to tick, held to those that are read whole."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_assets.run_scope import raw_versions, versions_made_from
from k2_market.feed import Feed, load_feeds
from k2_sensors import kept_versions
from k2_sensors.kept_versions import KEPT_FOR, BuildVersions, KeptVersions
from k2_sensors.run_records import last_table
from k2_sensors.stale_day_sensor import next_build

FEEDS = Path(__file__).resolve().parents[2] / "feeds"
FEED: Feed = load_feeds([FEEDS])["asx"]
RAW, LAST = dg.AssetKey(["asx", "raw_trades"]), last_table(FEED)
NOON = datetime(2014, 6, 2, 12, tzinfo=UTC)
DAYS = [date(2014, 3, 10) + timedelta(days=number) for number in range(4)]
FIRST = DAYS[0]

reports = st.tuples(st.just("raw"), st.sampled_from(DAYS))
builds = st.tuples(st.just("built"), st.sampled_from(DAYS))
builds_by_hand = st.tuples(st.just("built by hand"), st.sampled_from(DAYS))
looks = st.tuples(st.just("look"), st.none())


def report(instance: dg.DagsterInstance, what: str, day: date) -> None:
    if what == "raw":
        event = dg.AssetMaterialization(RAW, partition=day.isoformat())
    else:
        version = raw_versions(instance, RAW).get(day, "0")
        tags = {DATA_VERSION_TAG: version} if what == "built" else {}
        event = dg.AssetMaterialization(LAST, partition=day.isoformat(), tags=tags)
    instance.report_runless_asset_event(event)


def read_whole(instance: dg.DagsterInstance) -> tuple[dict[date, int], dict[date, int]]:
    raw, built = raw_versions(instance, RAW), versions_made_from(instance, LAST)
    return {day: int(each) for day, each in raw.items()}, {day: int(each) for day, each in built.items()}


def read(versions: BuildVersions, instance: dg.DagsterInstance, now: datetime) -> tuple[object, object]:
    return versions.raw.read(instance, now), versions.built.read(instance, now)


@given(st.lists(st.one_of(reports, builds, builds_by_hand, looks), max_size=25), st.sampled_from([1, 3, 500]))
@settings(max_examples=25, deadline=None)
def test_versions_read_on_are_those_read_whole(steps: list[tuple[str, date | None]], page: int) -> None:
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.setattr(kept_versions, "_PAGE", page)
        versions = BuildVersions.of(FEED)
        for what, day in [*steps, ("look", None)]:
            if day is not None:
                report(instance, what, day)
            else:
                assert read(versions, instance, NOON) == read_whole(instance)


def test_within_two_minutes_all_is_read_once() -> None:
    whole = []

    def counted(instance: dg.DagsterInstance, asset: dg.AssetKey) -> dict[date, str]:
        whole.append(asset)
        return raw_versions(instance, asset)

    with dg.DagsterInstance.ephemeral() as instance:
        kept = KeptVersions(RAW, counted, lambda record: str(record.storage_id))
        for number, day in enumerate(DAYS):
            report(instance, "raw", day)
            assert set(kept.read(instance, NOON + number * KEPT_FOR / len(DAYS))) == set(DAYS[: number + 1])
    assert whole == [RAW]


@pytest.mark.parametrize("later", [KEPT_FOR, -timedelta(hours=1)])
def test_what_was_wiped_is_noticed_after_two_minutes_or_a_clock_set_back(later: timedelta) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        report(instance, "raw", FIRST)
        report(instance, "built", FIRST)
        versions = BuildVersions.of(FEED)
        assert isinstance(next_build(FEED, instance, NOON, versions), dg.SkipReason)
        instance.wipe_assets([LAST])
        again = next_build(FEED, instance, NOON + later, versions)
        assert isinstance(again, dg.RunRequest)
        assert again.partition_key == FIRST.isoformat()
