"""Kinds: what trades declare, and that nothing but their own modules names their tables."""

import re
from datetime import date

import pytest
from repository import REPOSITORY, SHIPPED_FEEDS
from toy_kind import MARKS

from k2_assets.feed_family import feed_family
from k2_assets.names import build_job_name, ingest_job_name, ingest_op_name, maintenance_job_name
from k2_market.feeds.feed import Topics, load_feeds
from k2_market.kinds.raw_kind import RawKind
from k2_market.kinds.shipped import KINDS, kinds_of, tables_of
from k2_market.kinds.trades import TRADES
from k2_market.schemas.tables import BAR_INTERVALS, KAFKA_FIELDS

ABOUT_TRADES_ALONE = ("k2_market/kinds/trades.py", "k2_market/quality/", "k2_cli/output/bar_table.py")
FEED = load_feeds([SHIPPED_FEEDS])["sim"]


def test_no_module_but_those_of_trades_names_their_tables() -> None:
    named = re.compile(r"raw_trades|[\"']trades[\"']")
    modules = [path for path in REPOSITORY.glob("k2_*/**/*.py") if named.search(path.read_text(encoding="utf-8"))]
    strange = [str(path.relative_to(REPOSITORY)) for path in modules]
    assert [path for path in strange if not path.startswith(ABOUT_TRADES_ALONE)] == []


def test_the_names_of_trades_are_those_that_homes_have_in_their_records() -> None:
    assert ingest_job_name("asx", TRADES) == "asx_ingest"
    assert ingest_op_name("asx", TRADES) == "asx__raw_trades"
    assert build_job_name("asx", TRADES) == "asx_build"
    assert maintenance_job_name("asx", TRADES) == "asx_maintenance"
    keys = {key.to_user_string() for asset in feed_family(FEED, TRADES).assets for key in asset.keys}
    tables = ["raw_trades", "trades", *(each.table for each in BAR_INTERVALS), "maintenance"]
    assert keys == {f"sim/{name}" for name in tables}


def test_the_families_of_a_feed_have_no_name_in_common() -> None:
    trades, marks = feed_family(FEED, TRADES), feed_family(FEED, MARKS)
    keys = [{key for asset in family.assets for key in asset.keys} for family in (trades, marks)]
    assert keys[0].isdisjoint(keys[1])
    assert {job.name for job in trades.jobs}.isdisjoint(job.name for job in marks.jobs)
    pools = [{op.pool for asset in family.assets for op in [asset.op]} for family in (trades, marks)]
    assert pools[0].isdisjoint(pools[1])
    assert [check.node_def.name for check in marks.checks] == ["sim__raw_marks_checks"]


def test_a_kind_whose_derived_tables_nothing_makes_has_no_family() -> None:
    promising = RawKind(
        name="marks",
        topic_of=MARKS.topic_of,
        messages=MARKS.messages,
        raw_table="raw_marks",
        derived={"marks": MARKS.messages.rows},
        rules=(),
        family_suffix="__marks",
    )
    with pytest.raises(ValueError, match="kind marks: nothing makes its derived tables marks"):
        feed_family(FEED, promising)


def test_a_feed_without_a_topic_for_a_kind_has_none_of_its_tables() -> None:
    silent = RawKind("quotes", lambda topics: topics.quotes, MARKS.messages, "raw_quotes", {}, (), "__quotes")
    feed = FEED.model_copy(update={"topics": Topics(trades="t"), "start_date": date(2026, 1, 2)})
    assert kinds_of(feed, [TRADES, silent]) == [TRADES]
    with pytest.raises(ValueError, match="feed sim has no topic for quotes"):
        silent.topic(feed)


@pytest.mark.parametrize("kind", [*KINDS, MARKS], ids=lambda kind: kind.name)
def test_a_raw_tables_columns_are_its_messages_fields_and_then_those_of_kafka(kind: RawKind) -> None:
    fields = {field["name"] for field in kind.messages.avro["fields"]}
    assert {field.name for field in kind.messages.message_fields} == fields
    assert list(kind.messages.rows)[-len(KAFKA_FIELDS) :] == KAFKA_FIELDS


def test_no_two_shipped_kinds_have_a_table_or_a_suffix_in_common() -> None:
    assert len(tables_of(KINDS)) == sum(len(kind.tables) for kind in KINDS)
    assert len({kind.family_suffix for kind in KINDS}) == len(KINDS)
