"""Bad input on its real way: what can't be decoded is a row with bytes and reason; what is away loses nothing."""

import copy
import io
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import fastavro
import pytest
from confluent_kafka import Producer
from repository import SHIPPED_FEEDS

from k2_market.feeds.feed import Feed, load_feeds
from k2_market.kinds.trades import TRADES
from k2_market.messages.framing import frame
from k2_market.schemas.avro import TRADE, subject_of
from k2_platform.catch_up import CaughtUp, catch_up_feed, local_instance
from k2_platform.definitions import build_defs
from k2_resources.dagster.resources import IcebergCatalogResource
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topic_creation import ensure_topic
from k2_resources.kafka.topic_reader import OffsetsGone
from k2_resources.kafka.topics import KafkaTopics, KafkaUnavailable
from k2_resources.raw.table import RawTable
from k2_resources.settings import Settings
from k2_sensors.kafka_sensor import next_ingest

DAY = date(2026, 11, 20)
AT = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)


@pytest.fixture
def feed(stack_settings: Settings) -> Feed:
    declared = load_feeds(stack_settings.feed_directories)["sim"]
    topics = declared.topics.model_copy(update={"trades": f"bad-input-{uuid.uuid4().hex[:8]}", "partitions": 3})
    ensure_topic(stack_settings.bootstrap_servers, topics.trades, topics)
    return declared.model_copy(update={"topics": topics})


def trade(number: int, **changes: Any) -> dict[str, Any]:
    usual = {
        "message_id": f"m{number}",
        "trade_id": f"t{number}",
        "symbol": "SIM01",
        "exchange": "SIM",
        "asset_class": "equities",
        "exchange_timestamp": int(AT.timestamp() * 1_000_000) + number,
        "trade_date": DAY,
        "price": Decimal("10.5").quantize(Decimal("1E-10")),
        "quantity": Decimal(100).quantize(Decimal("1E-8")),
        "currency": "USD",
        "side": "BUY",
        "conditions": [],
        "action": "NEW",
        "corrects_trade_id": None,
        "sequence_number": number,
        "received_timestamp": AT,
        "attributes": None,
    }
    return {**usual, **changes}


def body(record: dict[str, Any]) -> bytes:
    written = io.BytesIO()
    fastavro.schemaless_writer(written, fastavro.parse_schema(TRADE), record)
    return written.getvalue()


def produce(settings: Settings, feed: Feed, values: list[bytes | None]) -> None:
    producer = Producer({"bootstrap.servers": settings.bootstrap_servers})
    for value in values:
        producer.produce(feed.topics.trades, key=b"SIM01", value=value, timestamp=int(AT.timestamp() * 1000))
    assert producer.flush(30) == 0


def catch_up(settings: Settings, feed: Feed, later: timedelta = timedelta()) -> CaughtUp:
    clock: Callable[[], datetime] = lambda: datetime.now(UTC) + later  # noqa: E731
    with local_instance(settings) as instance:
        return catch_up_feed(settings, feed, TRADES, instance, clock)


def schema_id(settings: Settings, feed: Feed) -> int:
    registry = SchemaRegistry(settings.schema_registry_url)
    return registry.register(subject_of(feed.topics.trades), TRADE)


def raw_rows(settings: Settings) -> list[dict[str, Any]]:
    catalog = open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)
    return sorted(
        RawTable(catalog, "sim", TRADES).view().read_day(DAY).to_pylist(), key=lambda row: row["kafka_offset"]
    )


def test_every_bad_message_is_a_row_with_its_bytes_and_reason_between_good_neighbours(
    stack_settings: Settings, feed: Feed
) -> None:
    number = schema_id(stack_settings, feed)
    good = [frame(number, body(trade(n))) for n in range(1, 30)]
    whole = body(trade(99))
    side = whole.index(b"\x06USD") + 4
    bad: dict[str, bytes | None] = {
        "null value": None,
        "empty value": b"",
        "magic byte 0x7b": b"{" + good[0][1:],
        "unknown schema id": frame(2_000_000_000, whole),
        "truncated": good[0][:-1],
        "left after the record": good[0] + b"\x00\x00\x00",
        "enum index": frame(number, whole[:side] + b"\x12" + whole[side + 1 :]),
        "symbol of 10240 characters": frame(number, body(trade(99, symbol="X" * 10_240))),
        "symbol": frame(number, body(trade(99, symbol="../../etc/passwd"))),
        "a quote": frame(number, body(trade(99, symbol="BHP'; DROP TABLE trades; --"))),
        "a newline": frame(number, body(trade(99, symbol="BHP\nRIO"))),
        "timestamp 0": frame(number, body(trade(99, exchange_timestamp=0))),
        "timestamp negative": frame(number, body(trade(99, exchange_timestamp=-1))),
        "year 2262": frame(number, body(trade(99, exchange_timestamp=2**63 - 1))),
        "trade_date": frame(number, body(trade(99, trade_date=date(1970, 1, 1)))),
    }
    values: list[bytes | None] = []
    for neighbour, each in zip(good, bad.values(), strict=False):
        values += [neighbour, each]
    produce(stack_settings, feed, values)
    assert catch_up(stack_settings, feed).failed == 0
    rows = raw_rows(stack_settings)
    assert [row["reject_reason"] is None for row in rows] == [True, False] * len(bad)
    assert [row["payload"] for row in rows if row["reject_reason"]] == list(bad.values())
    assert [row["trade_id"] for row in rows if not row["reject_reason"]] == [f"t{n}" for n in range(1, len(bad) + 1)]
    reasons = {name: row["reject_reason"] for name, row in zip(bad, rows[1::2], strict=True)}
    for words in ("null value", "empty value", "magic byte 0x7b", "unknown schema id", "truncated", "enum index"):
        assert words in reasons[words]
    assert "left after the record" in reasons["left after the record"]
    assert "10240" in reasons["symbol of 10240 characters"]
    assert all("exchange_timestamp" in reasons[name] for name in ("timestamp 0", "timestamp negative", "year 2262"))


def test_a_registry_that_is_away_fails_the_run_and_loses_nothing(stack_settings: Settings, feed: Feed) -> None:
    number = schema_id(stack_settings, feed)
    produce(stack_settings, feed, [frame(number, body(trade(n))) for n in range(1, 6)])
    away = stack_settings.model_copy(update={"registry_url": "http://127.0.0.1:1/apis/ccompat/v7"})
    failed = catch_up(away, feed)
    assert (failed.ingest_runs, failed.failed) == (1, 1)
    assert "wait for another attempt" in failed.waiting
    again = catch_up(stack_settings, feed, later=timedelta(minutes=1))
    assert again.failed == 0
    assert [row["trade_id"] for row in raw_rows(stack_settings)] == [f"t{n}" for n in range(1, 6)]


def test_a_broker_that_is_away_is_named_and_nothing_is_started(stack_settings: Settings, feed: Feed) -> None:
    away = stack_settings.model_copy(update={"kafka_bootstrap": "127.0.0.1:1"})
    with pytest.raises(KafkaUnavailable, match=r"127\.0\.0\.1:1"):
        catch_up(away, feed)
    with local_instance(stack_settings) as instance:
        assert instance.get_runs() == []


def test_a_topic_made_anew_between_plan_and_run_is_not_read_for_the_one_that_was_planned(
    stack_settings: Settings, feed: Feed
) -> None:
    number = schema_id(stack_settings, feed)
    produce(stack_settings, feed, [frame(number, body(trade(n))) for n in range(1, 6)])
    topics = KafkaTopics(stack_settings.bootstrap_servers)
    iceberg = IcebergCatalogResource(uri=stack_settings.iceberg_catalog_uri, warehouse=stack_settings.iceberg_warehouse)
    with local_instance(stack_settings) as instance:
        planned = next_ingest(feed, TRADES, topics, iceberg, instance, datetime.now(UTC))
        assert isinstance(planned, dg.RunRequest)
        config = copy.deepcopy(dict(planned.run_config or {}))
        config["ops"]["sim__raw_trades"]["config"]["topic_id"] = "AAAAAAAAAAAAAAAAAAAAAA"
        job = build_defs(settings=stack_settings, feeds={"sim": feed}).resolve_job_def("sim_ingest")
        with pytest.raises(OffsetsGone, match="deleted or made anew"):
            job.execute_in_process(instance=instance, partition_key=planned.partition_key, run_config=config)
    assert raw_rows(stack_settings) == []


def test_a_feed_file_with_an_unknown_key_is_named(tmp_path: Path) -> None:
    shipped = (SHIPPED_FEEDS / "sim.toml").read_text(encoding="utf-8")
    (tmp_path / "wrong.toml").write_text("colour = 'red'\n" + shipped, encoding="utf-8")
    declared = load_feeds([tmp_path])
    assert not declared
    assert str(declared.refused[0]).startswith(f"{tmp_path / 'wrong.toml'}: key colour: there is no such key")
