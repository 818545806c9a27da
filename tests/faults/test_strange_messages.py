"""Strange messages between good ones: each is a row or a dead letter with its bytes, and nothing stops for them."""

from collections import Counter
from datetime import date
from pathlib import Path
from random import Random

import dagster as dg
import pytest
from catching_up import catch_up, ingest, reaches_no_lag
from checker import assert_nothing_lost_or_doubled
from fault_tally import FaultTally
from own_feeds import OwnFeed, own_feed
from strange_messages import (
    DAY,
    WITH_DOUBLES,
    WITH_LONG_DECIMALS,
    WITH_MORE_PLACES,
    SchemaIds,
    Strange,
    message,
    outgoing,
    strange_messages,
    trade,
)

from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.messages.outgoing import OutgoingMessages
from k2_market.plans.failed_runs import ATTEMPTS_BEFORE_SETTING_ASIDE
from k2_market.schemas.avro import QUOTE
from k2_platform.catch_up import local_instance
from k2_resources.kafka.schema_registry import SchemaRegistry

LARGE = {"message.max.bytes": 600_000_000, "queue.buffering.max.kbytes": 1_000_000}


@pytest.fixture
def own(tmp_path: Path, kafka, registry) -> OwnFeed:
    return own_feed(tmp_path, kafka.bootstrap_servers, registry.url)


@pytest.fixture
def ids(own: OwnFeed) -> SchemaIds:
    registry = SchemaRegistry(own.settings.schema_registry_url)
    schemas = {"doubles": WITH_DOUBLES, "long_decimals": WITH_LONG_DECIMALS, "more_places": WITH_MORE_PLACES}
    schemas["quotes"] = QUOTE
    others = {name: registry.register(f"{own.feed.name}-{name}", schema) for name, schema in schemas.items()}
    return SchemaIds(own.schema_id, **others)


def findings(own: OwnFeed, check: str) -> dict[str | None, bool]:
    """Days of raw trades that a check was made for, and whether they passed the last time."""
    found: dict[str | None, bool] = {}
    with local_instance(own.settings) as instance:
        for run in reversed(instance.get_runs()):
            records = instance.get_records_for_run(
                run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
            ).records
            for record in records:
                told = record.event_log_entry.get_dagster_event().asset_check_evaluation_data
                if told.check_name == check:
                    found[told.partition] = told.passed
    return found


def days(own: OwnFeed) -> list[date]:
    return sorted({day for commit in own.raw().commits for day in commit.days})


def test_of_all_strange_messages_between_good_ones_each_is_a_row_or_a_dead_letter_with_its_bytes(
    own: OwnFeed, ids: SchemaIds, tally: FaultTally, seeded: Random
) -> None:
    strange = strange_messages(ids, seeded)
    good = [Strange("", message(ids.trades, trade(number))) for number in range(len(strange))]
    sent = [each for pair in zip(good, strange, strict=True) for each in pair]
    producer = own.producer(**LARGE)
    producer.send(outgoing(sent))
    producer.flush()
    done = catch_up(own)
    assert (done.failed, producer.refused) == (0, [])

    places = {(each.partition, each.offset): each.value for each in producer.acked}
    rows = [row for day in days(own) for row in own.raw().read_day(day).to_pylist()]
    dead = {(row["kafka_partition"], row["kafka_offset"]): row for row in rows if row["reject_reason"] is not None}
    assert Counter(row["payload"] for row in dead.values()) == Counter(each.value for each in sent if each.reason)
    assert all(row["payload"] == places[place] for place, row in dead.items())
    reasons = {row["payload"]: row["reject_reason"] for row in dead.values()}
    assert [each for each in sent if each.reason not in reasons.get(each.value, "")] == []
    decoded = Counter(row["trade_id"] for row in rows if row["reject_reason"] is None)
    assert decoded.total() == sum(not each.reason for each in sent)
    assert {f"t{number}" for number in range(len(good))} <= set(decoded)
    assert findings(own, "dead_letters")[DAY.isoformat()] is False
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally, days=days(own))
    tally.injected(*sorted({each.row for each in strange}))


def test_a_message_over_the_brokers_limit_is_refused_to_its_producer_and_stops_nobody(
    own: OwnFeed, tally: FaultTally, seeded: Random
) -> None:
    producer = own.producer(**LARGE)
    large = Strange("M5", seeded.randbytes(1_100_000))
    good = own.trades(100)
    producer.send(good)
    producer.send(outgoing([large]))
    producer.send(OutgoingMessages(good.keys, good.values, good.timestamps_ms))
    producer.flush()
    assert producer.refused == ["Broker: Message size too large"]
    reaches_no_lag(own)
    assert own.ledger().messages == 200
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally)
    tally.injected("M5")


@pytest.mark.slow
def test_a_batch_that_no_client_unpacks_is_set_aside_unread_and_holds_nothing_back(
    own: OwnFeed, tally: FaultTally
) -> None:
    producer = own.producer(**LARGE, **{"compression.type": "zstd"})
    first, behind = own.trades(1_000), own.trades(1_000, seed=2)
    producer.send(first)
    producer.flush()
    producer.send(outgoing([Strange("M5", bytes(200_000_000))]))
    producer.flush()
    bomb = producer.acked[-1]
    producer.send(behind)
    producer.flush()
    gap = RangeSet.of([OffsetRange(own.topic().topic_id, bomb.partition, bomb.offset, bomb.offset + 1)])
    for _ in range(ATTEMPTS_BEFORE_SETTING_ASIDE):
        (error,) = ingest(own).errors
        assert f"{own.feed.topics.trades}/{bomb.partition}: the batch at offset {bomb.offset} can't be read" in error
        assert own.topic().readable - own.ledger().covered == gap, "all others have come in"
    assert ingest(own).errors == []
    assert own.ledger().unread == gap
    reaches_no_lag(own)
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally, unread=gap)
    tally.injected("M5 unpacks to 200 MB")


@pytest.mark.slow
def test_a_hundred_thousand_symbols_are_ingested_and_built(own: OwnFeed, tally: FaultTally) -> None:
    many = [Strange("M16", message(own.schema_id, trade(n, symbol=f"S{n}"))) for n in range(100_000)]
    producer = own.producer()
    producer.send(outgoing(many))
    producer.flush()
    done = catch_up(own)
    assert (done.failed, done.build_runs) == (0, 1)
    assert len(own.raw().table.inspect.files()) == 1  # type: ignore[union-attr]  # no file for each symbol
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally, days=[DAY])
    tally.injected("M16")


def test_a_topic_of_nothing_but_poison_is_ingested_to_its_end_and_the_check_says_so(
    own: OwnFeed, tally: FaultTally, seeded: Random
) -> None:
    poison = [Strange("M17", seeded.randbytes(seeded.randrange(0, 300))) for _ in range(5_000)]
    producer = own.producer()
    producer.send(outgoing(poison))
    producer.flush()
    done = catch_up(own)
    assert done.failed == 0
    assert (own.ledger().messages, own.ledger().dead_letters) == (5_000, 5_000)
    assert findings(own, "dead_letters") == {DAY.isoformat(): False}
    producer.send(own.trades(100))
    producer.flush()
    assert catch_up(own).failed == 0
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally, days=[DAY])
    tally.injected("M17")
