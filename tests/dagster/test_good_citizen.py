"""K2 as Dagster's users expect it: described assets, sessions with their closed dates, checks alone, few runs."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest
from dagster import DagsterInstance
from repository import SHIPPED_FEEDS
from test_builds import build, commit_raw, evaluations, iceberg, published, raw_table

from k2_assets.asset_facts import column_schema
from k2_assets.checks import CURRENT_RULES
from k2_assets.records.run_scope import finding_metadata
from k2_assets.records.run_tags import DAYS_TAG, PROCESS_TAG, value_of
from k2_assets.records.unreported_commits import report_unreported
from k2_assets.schedules import build_if_stale
from k2_market.alerting.alarm_facts import AlarmFacts, FeedFacts
from k2_market.feeds.feed import Feed, parse_feed
from k2_market.kinds import trades as kinds
from k2_market.ledger.ledger import Ledger
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.ledger.topic_state import PartitionState, TopicState
from k2_market.quality.finding import Finding, Severity, findings_of_session
from k2_market.schemas.tables import BARS, COLUMN_DESCRIPTIONS, RAW_QUOTES, RAW_TRADES, TRADES
from k2_platform.definitions import build_defs
from k2_resources.settings import Settings
from k2_sensors.ingest_alarms import ObservedTopics
from k2_sensors.stale_day_sensor import blocked_days, next_build
from k2_sensors.unchecked_day_sensor import next_check

FRIDAY, SATURDAY, MONDAY, TUESDAY = date(2014, 3, 14), date(2014, 3, 15), date(2014, 3, 17), date(2014, 3, 18)
LONG_AFTER = datetime(2014, 4, 1, tzinfo=UTC)
RAW = dg.AssetKey(["asx", "raw_trades"])
TRADES_KEY = dg.AssetKey(["asx", "trades"])


def carry_out(
    settings: Settings, feed: Feed, instance: DagsterInstance, request: dg.RunRequest | dg.SkipReason
) -> dg.ExecuteInProcessResult:
    assert isinstance(request, dg.RunRequest)
    job = build_defs(settings=settings, feeds={"asx": feed}).resolve_job_def("asx_build")
    return job.execute_in_process(instance=instance, partition_key=request.partition_key, tags=request.tags)


def metadata_of(instance: DagsterInstance, key: dg.AssetKey, partition: str) -> dict[str, object]:
    of = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition])
    made = instance.fetch_materializations(of, limit=1).records[0].asset_materialization
    assert made is not None
    return {name: value.value for name, value in made.metadata.items()}


def test_rows_of_a_closed_date_are_kept_under_it_and_reported_with_the_next_session(
    settings: Settings, feed: Feed, instance: DagsterInstance
) -> None:
    commit_raw(settings, FRIDAY, 0, 2)
    commit_raw(settings, SATURDAY, 2, 3)
    commit_raw(settings, MONDAY, 5, 4)
    assert report_unreported(feed, kinds.TRADES, raw_table(settings).view(), instance) == [FRIDAY, MONDAY]
    assert report_unreported(feed, kinds.TRADES, raw_table(settings).view(), instance) == []
    assert metadata_of(instance, RAW, "2014-03-17")["dagster/partition_row_count"] == 7

    result = carry_out(
        settings, feed, instance, next_build(feed, kinds.TRADES, iceberg(settings), instance, LONG_AFTER)
    )

    assert result.success
    assert [published(settings, "trades", day) for day in (FRIDAY, SATURDAY, MONDAY)] == [2, 3, 4]
    assert [published(settings, "ohlcv_1d", day) for day in (FRIDAY, SATURDAY, MONDAY)] == [1, 1, 1]
    assert instance.get_materialized_partitions(TRADES_KEY) == {"2014-03-14", "2014-03-17"}
    made = metadata_of(instance, TRADES_KEY, "2014-03-17")
    assert made["dagster/partition_row_count"] == 7
    assert "closed_dates" in made
    found = evaluations(instance, result.run_id)
    assert {partition for _, check, partition in found if check != CURRENT_RULES} == {"2014-03-14", "2014-03-17"}
    assert found["asx/trades", "complete_against_raw", "2014-03-17"]
    assert not found["asx/trades", "inside_session", "2014-03-17"], "rows on a closed date are a finding"
    assert isinstance(next_build(feed, kinds.TRADES, iceberg(settings), instance, LONG_AFTER), dg.SkipReason)


def test_a_closed_date_alone_makes_its_session_be_built_and_no_empty_day(
    settings: Settings, feed: Feed, instance: DagsterInstance
) -> None:
    commit_raw(settings, SATURDAY, 0, 3)
    request = build_if_stale(feed, kinds.TRADES, iceberg(settings), MONDAY)
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == "2014-03-17"
    assert carry_out(settings, feed, instance, request).success
    assert set(iceberg(settings).day_table("asx", "trades").builds()) == {SATURDAY}


def test_records_of_a_weekend_that_was_a_partition_once_count_for_its_session(
    settings: Settings, feed: Feed, instance: DagsterInstance
) -> None:
    commit_raw(settings, SATURDAY, 0, 3)
    version = raw_table(settings).view().day_versions[SATURDAY]
    tags = {"dagster/data_version": str(version)}
    instance.report_runless_asset_event(dg.AssetMaterialization(RAW, partition="2014-03-15", tags=tags))
    assert report_unreported(feed, kinds.TRADES, raw_table(settings).view(), instance) == []
    check = next_check(feed, kinds.TRADES, instance, LONG_AFTER)
    assert isinstance(check, dg.RunRequest)
    assert check.partition_key == "2014-03-17", "no request for a partition that is none"

    def evaluated(partition: str, passed: bool) -> None:
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=RAW, check_name="offsets_reconcile", passed=passed, partition=partition, blocking=True
            )
        )

    evaluated("2014-03-15", passed=False)
    assert blocked_days(instance, feed, kinds.TRADES, [SATURDAY, TUESDAY]) == {SATURDAY}
    evaluated("2014-03-17", passed=True)
    assert blocked_days(instance, feed, kinds.TRADES, [SATURDAY]) == set(), "what was found last holds"


def test_findings_of_a_sessions_dates_are_one_which_fails_if_one_does() -> None:
    bad = Finding("c", False, Severity.ERROR, "two wrong", {"wrong": 2, "share": 0.5}, ({"symbol": "BHP"},))
    good = Finding("c", True, Severity.WARN, "none wrong", {"wrong": 0, "share": 0.25})
    (joined,) = findings_of_session(MONDAY, {SATURDAY: [bad], MONDAY: [good]})
    assert (joined.passed, joined.severity) == (False, Severity.ERROR)
    assert joined.description == "2014-03-15: two wrong"
    assert joined.numbers == {"wrong": 2, "share": 0.25}
    assert joined.examples == ({"trade_date": "2014-03-15", "symbol": "BHP"},)
    assert findings_of_session(MONDAY, {MONDAY: [good]}) == (good,)


def test_every_asset_check_job_schedule_and_sensor_has_a_sentence_for_a_new_colleague(settings: Settings) -> None:
    defs = build_defs(settings=settings)
    graph = defs.resolve_asset_graph()
    texts = {key.to_user_string(): graph.get(key).description for key in graph.get_all_asset_keys()}
    texts |= {str(key): graph.get(key).description for key in graph.asset_check_keys}
    texts |= {job.name: job.description for job in defs.resolve_all_job_defs() if not job.name.startswith("__")}
    texts |= {each.name: each.description for each in defs.sensors or ()}
    texts |= {each.name: each.description for each in defs.schedules or ()}
    assert {name for name, text in texts.items() if not text or len(text.split()) < 5 or text[-1] != "."} == set()


def test_a_table_asset_says_its_columns_name_place_owner_and_tags(settings: Settings, feed: Feed) -> None:
    owned = feed.model_copy(update={"owner": "desk@example.com", "exchange": "A S X"})
    graph = build_defs(settings=settings, feeds={"asx": owned}).resolve_asset_graph()
    commit_raw(settings, MONDAY, 0, 1)
    node = graph.get(RAW)
    assert node.metadata["dagster/table_name"] == "asx.raw_trades"
    assert node.metadata["dagster/column_schema"] == column_schema(RAW_TRADES)
    table = raw_table(settings).view().table
    assert table is not None
    assert node.metadata["dagster/uri"].value == table.location()
    assert node.owners == ["desk@example.com"]
    assert node.tags == {
        **node.tags,
        "exchange": "A_S_X",
        "asset_class": "equities",
        "layer": "raw",
        "dagster/storage_kind": "iceberg",
    }
    assert graph.get(TRADES_KEY).code_version is not None
    assert graph.get(RAW).parent_keys == {dg.AssetKey(["asx", "trades_topic"])}


def test_every_column_of_every_table_is_described_and_no_other() -> None:
    columns = {field.name for schema in (RAW_TRADES, RAW_QUOTES, TRADES, BARS) for field in schema}
    assert columns == set(COLUMN_DESCRIPTIONS)


@pytest.mark.parametrize("owner", ["market-data", "team:", "team:two words", "someone@", "a@b", ""])
def test_an_owner_that_dagster_would_refuse_is_refused_with_key_and_expectation(owner: str) -> None:
    text = (SHIPPED_FEEDS / "asx.toml").read_text().replace("team:market-data", owner)
    with pytest.raises(Exception, match=r"(?s)key owner: .*expected a team, as team:market-data, or an e-mail"):
        parse_feed(text, "feeds/asx.toml")


def test_a_check_runs_alone_on_a_session_and_leaves_the_others_as_they_were(
    settings: Settings, feed: Feed, instance: DagsterInstance
) -> None:
    commit_raw(settings, MONDAY, 0, 5)
    assert build(settings, feed, instance, MONDAY).success
    defs = build_defs(settings=settings, feeds={"asx": feed})
    for asset, check in (("raw_trades", "dead_letters"), ("trades", "unique_trades"), ("ohlcv_1d", "bar_invariants")):
        key = dg.AssetCheckKey(dg.AssetKey(["asx", asset]), check)
        definition = next(each for each in defs.asset_checks or () if key in each.check_keys)
        assert isinstance(definition, dg.AssetChecksDefinition)
        assert definition.can_subset, "the UI offers Execute for such alone"
        job = defs.resolve_implicit_global_asset_job_def().get_subset(
            asset_selection=set(), asset_check_selection={key}
        )
        result = job.execute_in_process(instance=instance, partition_key="2014-03-17")
        assert result.success
        assert evaluations(instance, result.run_id) == {(f"asx/{asset}", check, "2014-03-17"): True}


def test_a_backfill_of_many_sessions_is_one_run_that_reports_and_checks_each(
    settings: Settings, feed: Feed, instance: DagsterInstance
) -> None:
    for n, day in enumerate((FRIDAY, SATURDAY, MONDAY, TUESDAY)):
        commit_raw(settings, day, n * 10, 2 + n)
    defs = build_defs(settings=settings, feeds={"asx": feed})
    tables = [dg.AssetKey(["asx", name]) for name in ("trades", "ohlcv_1m", "ohlcv_1d")]
    policies = {defs.resolve_asset_graph().get(key).backfill_policy for key in tables}
    assert policies == {dg.BackfillPolicy.multi_run(200)}
    ends = {"dagster/asset_partition_range_start": "2014-03-14", "dagster/asset_partition_range_end": "2014-03-18"}
    job = defs.resolve_job_def("asx_build")

    result = job.execute_in_process(instance=instance, tags=ends)

    assert result.success
    sessions = {"2014-03-14": 2, "2014-03-17": 3 + 4, "2014-03-18": 5}
    for key in tables:
        assert instance.get_materialized_partitions(key) == set(sessions)
    rows = {day: metadata_of(instance, tables[0], day)["dagster/partition_row_count"] for day in sessions}
    assert rows == sessions
    found = evaluations(instance, result.run_id)
    assert {partition for _, check, partition in found if check != CURRENT_RULES} == set(sessions)
    assert all(found["asx/trades", "complete_against_raw", day] for day in sessions)
    infos = instance.event_log_storage.get_asset_check_partition_info([dg.AssetCheckKey(TRADES_KEY, "unique_trades")])
    assert {each.latest_execution_status.value for each in infos} == {"SUCCEEDED"}, "none is left as planned"


def test_tags_that_only_plans_read_are_not_listed_and_old_names_are_still_read() -> None:
    for name in (DAYS_TAG, PROCESS_TAG):
        assert name.startswith(".dagster/"), "the prefix whose tags Dagster's lists leave out"
    assert value_of({"k2/days": '["2014-03-17"]'}, DAYS_TAG) == '["2014-03-17"]'
    assert value_of({"k2/days": "old", DAYS_TAG: "new"}, DAYS_TAG) == "new"
    assert value_of({}, DAYS_TAG) is None


def observed(end: int, settled: int, minutes: int) -> AlarmFacts:
    topic = TopicState("t", "T1", (PartitionState(0, 0, end, end),))
    ledger = Ledger(covered=RangeSet.of([OffsetRange("T1", 0, 0, settled)]))
    return AlarmFacts(
        (FeedFacts("asx", "asx", "asx/raw_trades", "t", topic, ledger),),
        None,
        (),
        LONG_AFTER + timedelta(minutes=minutes),
    )


def test_a_topics_end_and_lag_are_observed_when_they_change_and_not_often() -> None:
    topics = ObservedTopics()
    (first,) = topics.news(observed(end=9, settled=4, minutes=0), {"asx": kinds.TRADES})
    assert first.asset_key == dg.AssetKey(["asx", "trades_topic"])
    assert first.metadata["lag"].value == 5
    assert first.metadata["end_offsets"].value == {"0": 9}
    assert topics.news(observed(end=12, settled=9, minutes=9), {"asx": kinds.TRADES}) == [], (
        "the last was made less than ten minutes ago"
    )
    assert [
        each.metadata["lag"].value
        for each in topics.news(observed(end=12, settled=12, minutes=11), {"asx": kinds.TRADES})
    ] == [0]
    assert topics.news(observed(end=12, settled=12, minutes=300), {"asx": kinds.TRADES}) == [], "nothing has changed"


def test_examples_of_a_finding_are_a_table() -> None:
    found = Finding("c", False, Severity.WARN, "d", {}, ({"symbol": "BHP", "rows": 2}, {"symbol": "RIO"}))
    table = finding_metadata(found)["examples"]
    assert isinstance(table, dg.TableMetadataValue)
    assert [dict(each.data) for each in table.records] == [{"symbol": "BHP", "rows": 2}, {"symbol": "RIO", "rows": 0}]
