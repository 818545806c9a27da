"""What stands against ingestion, and what of it is told: looks at facts one after the other."""

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_market.alerting.alarm_facts import AlarmFacts, DiskUse, FailingSensor, FeedFacts, NoAnswer, Untrusted
from k2_market.alerting.alarm_memory import AlarmMemory, AlarmMemoryError
from k2_market.alerting.alerts import Alert, AlertKind
from k2_market.alerting.ingest_alarms import AWAY_FOR, FAILED_TICKS, OPEN_FOR, RUNNING_FOR, STILL_FOR
from k2_market.alerting.silence import NEVER_SPOKE_AFTER, Expectation
from k2_market.feeds.feed import RefusedFile
from k2_market.ledger.ledger import Ledger
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.ledger.topic_state import PartitionState, TopicState
from k2_market.plans.ingest_plan import FailedRun
from k2_market.quality.finding import Severity

START = datetime(2026, 11, 24, 12, tzinfo=UTC)
LOOK = timedelta(seconds=30)
NAME = "market.equities.trades.asx"


def ranges(*spans: tuple[int, int, int], topic_id: str = "T1") -> RangeSet:
    return RangeSet.of(OffsetRange(topic_id, partition, start, end) for partition, start, end in spans)


def log(*partitions: tuple[int, int, int], topic_id: str = "T1") -> TopicState:
    """A topic's partitions, each by its low, stable and high offset."""
    return TopicState(NAME, topic_id, tuple(PartitionState(n, *each) for n, each in enumerate(partitions)))


def ledger(covered: RangeSet, *, batch: str = "b1", **more: Any) -> Ledger:
    return Ledger(
        covered=covered, topic_names={topic_id: NAME for topic_id, _ in covered.spans}, batch_id=batch, **more
    )


WELL = FeedFacts("asx", "asx", "asx/raw_trades", NAME, log((0, 10, 10)), ledger(ranges((0, 0, 10))))
LATE = replace(WELL, topic=log((0, 15, 15)))
"""Five messages wait."""


@dataclass
class Watch:
    """Looks once in a while, through the text of its memory, and has each alert taken."""

    now: datetime = START
    memory: str = field(default_factory=lambda: AlarmMemory().to_json())

    def look(self, *feeds: FeedFacts, after: timedelta = LOOK, taken: bool = True, **more: Any) -> list[Alert]:
        self.now += after
        memory = AlarmMemory.from_json(self.memory)
        kept = ("registry", "failing", "refused", "changed", "closed_pools", "disks")
        found = {"registry": None, "failing": (), **{name: more[name] for name in kept if name in more}}
        facts = AlarmFacts(feeds=feeds or (WELL,), now=self.now, **found)
        memory, notices = memory.after(facts)
        if taken:
            for notice in notices:
                memory = memory.sent(notice)
        self.memory = memory.to_json()
        return [notice.alert for notice in notices]

    def titles(self, *feeds: FeedFacts, **more: Any) -> list[str]:
        return [alert.title for alert in self.look(*feeds, **more)]

    def told_within(self, lasting: timedelta, *feeds: FeedFacts, **more: Any) -> list[str]:
        """Titles of what is told while the same facts last."""
        until = self.now + lasting
        told: list[str] = []
        while self.now < until:
            told += self.titles(*feeds, **more)
        return told


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_when_all_is_well_nothing_is_told(watch: Watch) -> None:
    assert watch.told_within(timedelta(hours=2)) == []


OPEN = START - timedelta(hours=2)
LIMIT = timedelta(minutes=15)
CLOSED_DAYS = tuple(date(2026, 11, day) for day in (19, 20, 23))


def expecting(spans_end: datetime, *, declared: bool = True) -> Expectation:
    """A session that is open since two hours before the start, whose feed may be silent for 15 minutes."""
    return Expectation(LIMIT, declared, ((OPEN, spans_end),), OPEN - timedelta(days=1), CLOSED_DAYS)


class TestSilence:
    def look(self, watch: Watch, *, declared: bool = True, after: timedelta = LOOK, **more: Any) -> list[Alert]:
        found = expecting(watch.now + after, declared=declared)
        days = more.pop("days", frozenset(CLOSED_DAYS))
        return watch.look(replace(WELL, expected=found, days=days, **more), after=after)

    def looks(self, watch: Watch, lasting: timedelta, **more: Any) -> list[Alert]:
        until, told = watch.now + lasting, []
        while watch.now < until:
            told += self.look(watch, **more)
        return told

    def test_a_feed_that_says_nothing_in_its_session_is_told_once_a_session(self, watch: Watch) -> None:
        told = self.looks(watch, timedelta(hours=4), newest=START - timedelta(minutes=1))

        (alert,) = told
        assert (alert.title, alert.severity) == ("asx/raw_trades: silent in its session", Severity.ERROR)
        assert "No message in market.equities.trades.asx for 15 minutes of open session." in alert.message
        assert "The newest is of 2026-11-24 11:59:00 UTC." in alert.message

    def test_a_feed_whose_file_says_nothing_of_silence_gets_a_warning(self, watch: Watch) -> None:
        (alert,) = self.looks(watch, timedelta(hours=1), declared=False, newest=START)

        assert alert.severity is Severity.WARN

    def test_messages_with_old_times_that_come_in_are_no_silence(self, watch: Watch) -> None:
        old = datetime(2014, 3, 10, tzinfo=UTC)
        told = []
        for end in range(10, 200):
            facts = {"topic": log((0, end, end)), "ledger": ledger(ranges((0, 0, end))), "newest": old}
            told += self.look(watch, **facts)

        assert told == []

    def test_after_a_laptop_slept_silence_counts_from_the_next_look_on(self, watch: Watch) -> None:
        assert self.look(watch, newest=None) == []

        assert self.look(watch, newest=None, after=timedelta(hours=5)) == []
        assert self.looks(watch, LIMIT - 2 * LOOK, newest=None) == []
        assert len(self.looks(watch, 3 * LOOK, newest=None)) == 1

    def test_a_session_that_closed_without_trades_is_told_by_its_day(self, watch: Watch) -> None:
        told = self.looks(watch, timedelta(minutes=20), days=frozenset(CLOSED_DAYS[:2]), newest=None, after=LOOK)

        alerts = [alert for alert in told if "session without trades" in alert.title]
        (alert,) = alerts
        assert "The session of 2026-11-23 closed without a trade." in alert.message
        assert alert.severity is Severity.WARN

    def test_a_session_is_not_without_trades_while_messages_wait_to_be_read(self, watch: Watch) -> None:
        facts = {"days": frozenset(CLOSED_DAYS[:2]), "topic": log((0, 15, 15)), "in_flight": (ranges((0, 10, 15)),)}

        told = self.looks(watch, timedelta(hours=1), **facts)

        assert not [alert for alert in told if "session without trades" in alert.title]

    def test_a_feed_that_never_spoke_is_told_after_a_day(self, watch: Watch) -> None:
        quiet = {"topic": log((0, 0, 0)), "ledger": ledger(RangeSet()), "days": frozenset()}

        assert self.look(watch, **quiet) == []
        assert self.look(watch, **quiet, after=NEVER_SPOKE_AFTER - LOOK) == []
        (alert,) = self.look(watch, **quiet)
        assert alert.title == "asx/raw_trades: no message yet"
        assert self.looks(watch, timedelta(hours=1), **quiet) == []

    def test_a_feed_of_which_nothing_is_expected_is_never_silent(self, watch: Watch) -> None:
        assert watch.told_within(timedelta(hours=3), replace(WELL, newest=START - timedelta(days=400))) == []


class TestFormerTopics:
    former = replace(log((0, 12, 12), topic_id="T0"), name="market.equities.trades.old")

    def test_messages_that_a_renamed_topic_still_holds_are_told_with_their_offsets(self, watch: Watch) -> None:
        covered = ranges((0, 0, 5), topic_id="T0") | ranges((0, 0, 10))
        facts = replace(
            WELL,
            ledger=replace(ledger(covered), topic_names={"T0": self.former.name, "T1": NAME}),
            former=(self.former,),
        )

        (alert,) = watch.look(facts)

        assert alert.title == "asx/raw_trades: messages left in a former topic"
        assert "The feed's topic was market.equities.trades.old and is market.equities.trades.asx" in alert.message
        assert alert.message.count("[5,12)") == 1
        assert watch.told_within(timedelta(hours=1), facts) == []

    def test_a_former_topic_that_was_read_to_its_end_is_no_alarm(self, watch: Watch) -> None:
        covered = ranges((0, 0, 12), topic_id="T0") | ranges((0, 0, 10))

        facts = replace(
            WELL,
            ledger=replace(ledger(covered), topic_names={"T0": self.former.name, "T1": NAME}),
            former=(self.former,),
        )

        assert watch.told_within(timedelta(hours=1), facts) == []


class TestPlatform:
    def test_feed_files_that_changed_under_a_running_stack_are_told_at_the_second_look(self, watch: Watch) -> None:
        changed = ("us.toml was added", "asx.toml was changed")

        told = watch.told_within(timedelta(hours=1), changed=changed)

        assert told == ["feed files: feed files changed"]

    def test_a_feed_file_that_changes_again_is_told_again(self, watch: Watch) -> None:
        assert len(watch.told_within(timedelta(minutes=5), changed=("asx.toml was changed",))) == 1
        assert len(watch.told_within(timedelta(minutes=5), changed=("asx.toml was removed",))) == 1

    def test_a_pool_without_slots_is_told_once(self, watch: Watch) -> None:
        (alert,) = watch.look(closed_pools=("k2_bars",))

        assert (alert.title, alert.severity) == ("pool k2_bars: pool has no slots", Severity.ERROR)
        assert watch.told_within(timedelta(hours=1), closed_pools=("k2_bars",)) == []

    def test_a_disk_is_told_at_85_percent_and_again_as_an_error_at_95(self, watch: Watch) -> None:
        def disk(used: float) -> tuple[DiskUse, ...]:
            return (DiskUse("/data", used, 3 * 2**30),)

        assert watch.look(disks=disk(0.849)) == []
        (warning,) = watch.look(disks=disk(0.85))
        assert (warning.title, warning.severity) == ("/data: disk is filling up", Severity.WARN)
        assert "85% of the disk of /data is in use, 3.0 GiB are free." in warning.message
        assert watch.told_within(timedelta(hours=1), disks=disk(0.9)) == []
        (error,) = watch.look(disks=disk(0.95))
        assert error.severity is Severity.ERROR

    def test_a_disk_that_moves_about_its_limit_is_told_once_until_it_was_well_below(self, watch: Watch) -> None:
        def titles(*shares: float) -> list[str]:
            return [title for used in shares for title in watch.titles(disks=(DiskUse("/data", used, 1),))]

        assert titles(0.86, 0.84, 0.86, 0.81, 0.86) == ["/data: disk is filling up"]
        assert titles(0.79, 0.86) == ["/data: disk is filling up"]


class TestFeedFileRefused:
    refused = (RefusedFile("feeds/tase.toml", "tase", "key calendar: the sessions of 'XTAE' can't be had"),)

    def test_names_file_key_and_reason_once(self, watch: Watch) -> None:
        (alert,) = watch.look(refused=self.refused)

        assert alert.title == "tase: feed file refused"
        assert (alert.kind, alert.severity) == (AlertKind.INGEST, Severity.ERROR)
        assert "feeds/tase.toml declares no feed that can be used: key calendar: the sessions" in alert.message
        assert "the others go on" in alert.message
        assert watch.told_within(timedelta(hours=1), refused=self.refused) == []

    def test_is_told_again_for_another_reason_and_when_it_is_refused_anew(self, watch: Watch) -> None:
        watch.look(refused=self.refused)
        assert watch.titles(refused=(replace(self.refused[0], reason="not valid TOML"),)) == ["tase: feed file refused"]
        assert watch.titles() == []
        assert watch.titles(refused=self.refused) == ["tase: feed file refused"]


class TestTableRolledBack:
    facts = replace(WELL, ledger=Untrusted("ledger ends with b3, the table with b1", True, ranges((0, 4, 10))))

    def test_names_the_ranges_and_the_way_forward_once(self, watch: Watch) -> None:
        (alert,) = watch.look(self.facts)

        assert alert.title == "asx/raw_trades: table rolled back"
        assert (alert.kind, alert.severity, alert.feed, alert.run_id) == (AlertKind.INGEST, Severity.ERROR, "asx", None)
        assert "T1/0[4,10)" in alert.message
        assert "k2 repair --feed asx --roll-forward" in alert.message
        assert alert.numbers == {"offsets": 6}
        assert watch.told_within(timedelta(hours=1), self.facts) == []

    def test_is_told_again_when_it_happens_again(self, watch: Watch) -> None:
        assert len(watch.look(self.facts)) == 1
        assert watch.look() == []
        assert len(watch.look(self.facts)) == 1

    def test_is_not_told_again_after_the_catalog_was_away(self, watch: Watch) -> None:
        assert len(watch.look(self.facts)) == 1
        assert watch.look(replace(WELL, ledger=NoAnswer("refused"))) == []
        assert watch.look(self.facts) == []

    def test_says_so_where_the_ranges_are_not_known(self, watch: Watch) -> None:
        (alert,) = watch.look(replace(WELL, ledger=Untrusted("rolled back", True)))

        assert "are not known: their snapshots have expired" in alert.message

    def test_a_ledger_that_cannot_be_read_is_another_matter(self, watch: Watch) -> None:
        (alert,) = watch.look(replace(WELL, ledger=Untrusted("table property k2.ledger is not a ledger")))

        assert alert.title == "asx/raw_trades: ledger can't be trusted"
        assert "table property k2.ledger is not a ledger" in alert.message


class TestTopicRecreated:
    new = log((0, 3, 3), topic_id="T2")

    def test_names_both_ids_the_ledgers_end_and_what_was_seen_and_never_came_in(self, watch: Watch) -> None:
        watch.look(replace(WELL, topic=log((0, 14, 16), (0, 0, 0))))
        (alert,) = watch.look(replace(WELL, topic=self.new))

        assert alert.title == "asx/raw_trades: topic recreated"
        assert alert.severity is Severity.ERROR
        assert "its topic id was T1 and is T2" in alert.message
        assert "The ledger has partition 0 to 10 of it" in alert.message
        assert "never ingested: T1/0[10,16)" in alert.message
        assert alert.numbers == {"offsets": 6}

    def test_is_told_once_also_when_the_new_topic_is_ingested(self, watch: Watch) -> None:
        watch.look()
        assert len(watch.look(replace(WELL, topic=self.new))) == 1
        both = ledger(ranges((0, 0, 10)) | ranges((0, 0, 3), topic_id="T2"), batch="b2")
        assert watch.told_within(timedelta(hours=1), replace(WELL, topic=self.new, ledger=both)) == []

    def test_is_a_warning_where_all_that_was_seen_is_ingested(self, watch: Watch) -> None:
        watch.look()
        (alert,) = watch.look(replace(WELL, topic=self.new))

        assert alert.severity is Severity.WARN
        assert "It held no more when seen last" in alert.message

    def test_is_found_by_the_ledger_where_nothing_is_remembered(self, watch: Watch) -> None:
        (alert,) = watch.look(replace(WELL, topic=self.new))

        assert "its topic id was T1 and is T2" in alert.message
        assert "was never looked at" in alert.message

    def test_what_retention_took_from_the_old_topic_unrecorded_counts_as_missing(self, watch: Watch) -> None:
        watch.look(replace(WELL, topic=log((12, 14, 14))))
        alerts = watch.look(replace(WELL, topic=self.new))

        recreated = next(alert for alert in alerts if alert.title.endswith("recreated"))
        assert "never ingested: T1/0[10,14)" in recreated.message

    def test_a_second_time_speaks_of_the_topic_before_alone(self, watch: Watch) -> None:
        watch.look(replace(WELL, topic=log((0, 14, 14))))
        watch.look(replace(WELL, topic=self.new))
        (alert,) = watch.look(replace(WELL, topic=log((0, 1, 1), topic_id="T3")))

        assert "its topic id was T2 and is T3" in alert.message
        assert "never ingested: T2/0[0,3)" in alert.message


class TestTopicDeleted:
    gone = replace(WELL, topic=None)

    def test_is_told_once_when_it_is_missing_at_two_looks(self, watch: Watch) -> None:
        watch.look(replace(WELL, topic=log((0, 12, 12))))
        assert watch.look(self.gone) == []
        (alert,) = watch.look(self.gone)

        assert alert.title == "asx/raw_trades: topic deleted"
        assert "T1/0[10,12)" in alert.message
        assert watch.told_within(timedelta(hours=1), self.gone) == []

    def test_one_that_is_back_at_the_next_look_was_recreated_and_no_more(self, watch: Watch) -> None:
        watch.look()
        watch.look(self.gone)
        assert watch.titles(replace(WELL, topic=TestTopicRecreated.new)) == ["asx/raw_trades: topic recreated"]

    def test_a_topic_that_never_was_is_not_missed(self, watch: Watch) -> None:
        assert (
            watch.told_within(timedelta(hours=1), FeedFacts("asx", "asx", "asx/raw_trades", NAME, None, Ledger())) == []
        )


class TestOffsetsLost:
    def test_each_new_range_is_told_once(self, watch: Watch) -> None:
        first = ledger(ranges((0, 0, 10)), lost=ranges((0, 10, 20)))
        second = ledger(ranges((0, 0, 10)), batch="b2", lost=ranges((0, 10, 20), (1, 0, 5)))
        topic = log((20, 20, 20), (5, 5, 5))

        (alert,) = watch.look(replace(WELL, topic=log((20, 20, 20)), ledger=first))
        assert alert.title == "asx/raw_trades: offsets lost to retention"
        assert "before they were read: T1/0[10,20)." in alert.message
        (alert,) = watch.look(replace(WELL, topic=topic, ledger=second))
        assert "before they were read: T1/1[0,5)." in alert.message
        assert watch.told_within(timedelta(hours=1), replace(WELL, topic=topic, ledger=second)) == []

    def test_a_loss_is_told_before_it_is_recorded_and_not_again_after(self, watch: Watch) -> None:
        assert "T1/0[10,12)" in watch.look(replace(WELL, topic=log((12, 12, 12))))[0].message
        recorded = ledger(ranges((0, 0, 10)), batch="b2", lost=ranges((0, 10, 12)))
        assert watch.look(replace(WELL, topic=log((12, 12, 12)), ledger=recorded)) == []

    def test_what_was_recorded_before_the_first_look_is_told_at_it(self, watch: Watch) -> None:
        recorded = ledger(ranges((0, 0, 10)), lost=ranges((0, 10, 12)))
        assert len(watch.look(replace(WELL, topic=log((12, 12, 12)), ledger=recorded))) == 1


class TestSetAside:
    def test_dead_letters_that_were_set_aside_are_told_once_with_what_to_do(self, watch: Watch) -> None:
        aside = replace(WELL, ledger=ledger(ranges((0, 0, 10)), set_aside=ranges((0, 4, 5))))
        (alert,) = watch.look(aside)
        assert (alert.title, alert.severity) == ("asx/raw_trades: messages set aside", Severity.ERROR)
        assert "T1/0[4,5)" in alert.message
        assert "k2 repair --feed asx --dead-letters" in alert.message
        assert alert.numbers == {"offsets": 1}
        assert watch.told_within(timedelta(hours=1), aside) == []
        more = replace(WELL, ledger=ledger(ranges((0, 0, 10)), set_aside=ranges((0, 4, 6))))
        (alert,) = watch.look(more)
        assert "T1/0[5,6)" in alert.message
        assert "T1/0[4,5)" not in alert.message

    def test_offsets_that_could_not_be_read_are_told_apart_and_are_no_standstill(self, watch: Watch) -> None:
        unread = replace(
            WELL, topic=log((0, 12, 12), (0, 0, 0)), ledger=ledger(ranges((0, 0, 10)), set_aside=ranges((0, 10, 12)))
        )
        (alert,) = watch.look(unread)
        assert alert.title == "asx/raw_trades: unreadable offsets set aside"
        assert "T1/0[10,12)" in alert.message
        assert watch.told_within(timedelta(hours=1), unread) == []

    def test_they_are_not_told_again_after_the_catalog_was_away(self, watch: Watch) -> None:
        aside = replace(WELL, ledger=ledger(ranges((0, 0, 10)), set_aside=ranges((0, 4, 5))))
        assert len(watch.look(aside)) == 1
        assert watch.look(replace(WELL, ledger=NoAnswer("refused"))) == []
        assert watch.look(aside) == []

    def test_they_are_told_where_kafka_gives_no_answer(self, watch: Watch) -> None:
        aside = replace(WELL, topic=NoAnswer("silent"), ledger=ledger(ranges((0, 0, 10)), set_aside=ranges((0, 4, 5))))
        assert watch.titles(aside) == ["asx/raw_trades: messages set aside"]


class TestLogTruncated:
    def test_is_told_once_found_and_recorded(self, watch: Watch) -> None:
        short = replace(WELL, topic=log((0, 6, 6)))
        assert watch.look(short) == []
        (alert,) = watch.look(short)
        assert alert.title == "asx/raw_trades: log truncated"
        assert "ended before: T1/0[6,10)." in alert.message
        assert "halted" in alert.message

        recorded = ledger(ranges((0, 0, 10)), batch="b2", truncated=ranges((0, 6, 10)))
        grown = replace(WELL, topic=log((0, 50, 50)), ledger=recorded)
        assert watch.told_within(timedelta(hours=2), grown) == []


class TestOpenTransaction:
    behind = replace(WELL, topic=log((0, 10, 17), (0, 0, 2)))

    def test_is_told_once_it_has_lasted_with_partition_offset_and_what_waits(self, watch: Watch) -> None:
        assert watch.told_within(OPEN_FOR - LOOK, self.behind) == []
        (alert,) = [*watch.look(self.behind), *watch.look(self.behind)]

        assert alert.title == "asx/raw_trades: open transaction holds up readers"
        assert f"Partition 0 of {NAME}: 7 offsets wait behind an open transaction at offset 10." in alert.message
        assert f"Partition 1 of {NAME}: 2 offsets wait" in alert.message
        assert alert.numbers == {"since": "2026-11-24 12:00:30 UTC"}
        assert watch.told_within(timedelta(hours=1), self.behind) == []

    def test_transactions_that_end_and_begin_are_not_told(self, watch: Watch) -> None:
        for offset in range(100):
            covered = ledger(ranges((0, 0, 10 + offset)), batch=str(offset))
            assert watch.look(replace(WELL, topic=log((0, 10 + offset, 20 + offset)), ledger=covered)) == []

    def test_another_one_is_told_again(self, watch: Watch) -> None:
        assert len(watch.told_within(timedelta(hours=1), self.behind)) == 1
        later = replace(WELL, topic=log((0, 17, 20)), ledger=ledger(ranges((0, 0, 17)), batch="b2"))
        assert len(watch.told_within(timedelta(hours=1), later)) == 1


class TestStandstill:
    def test_is_told_once_when_nothing_happens_though_messages_wait(self, watch: Watch) -> None:
        assert watch.told_within(STILL_FOR, LATE) == []
        (alert,) = watch.look(LATE)

        assert alert.title == "asx/raw_trades: ingestion stands still"
        assert "5 messages" in alert.message
        assert "T1/0[10,15)" in alert.message
        assert "asx_kafka_sensor" in alert.message
        assert watch.told_within(timedelta(hours=1), LATE) == []

    def test_lag_that_every_look_finds_is_not_told_while_commits_go_on(self, watch: Watch) -> None:
        for n in range(100):
            covered = ledger(ranges((0, 0, 10 + n)), batch=f"b{n}")
            assert watch.look(replace(WELL, topic=log((0, 20 + n, 20 + n)), ledger=covered)) == []

    def test_messages_that_a_run_carries_are_told_after_the_longest_run_only(self, watch: Watch) -> None:
        carried = replace(LATE, in_flight=(ranges((0, 10, 15)),))
        assert watch.told_within(RUNNING_FOR, carried) == []
        assert "1 ingest runs queued or under way" in watch.look(carried)[0].message

    def test_messages_that_rest_after_a_failed_run_are_its_alerts_affair(self, watch: Watch) -> None:
        for n in range(100):
            failed = FailedRun(ranges((0, 10, 15)), 9, START + n * LOOK)
            assert watch.look(replace(LATE, failed=(failed,))) == []

    def test_a_failed_run_that_is_not_tried_again_is_told(self, watch: Watch) -> None:
        failed = replace(LATE, failed=(FailedRun(ranges((0, 10, 15)), 1, START),))
        assert watch.told_within(timedelta(minutes=20), failed) == ["asx/raw_trades: ingestion stands still"]

    def test_a_run_that_failed_in_the_future_by_a_clock_that_was_set_back_keeps_nothing_from_being_told(
        self, watch: Watch
    ) -> None:
        failed = replace(LATE, failed=(FailedRun(ranges((0, 10, 15)), 1, START + timedelta(hours=6)),))
        assert watch.told_within(timedelta(minutes=20), failed) == ["asx/raw_trades: ingestion stands still"]

    def test_time_in_which_kafka_was_away_does_not_count(self, watch: Watch) -> None:
        watch.look(LATE)
        watch.told_within(timedelta(minutes=30), replace(LATE, topic=NoAnswer("timed out")))
        assert watch.titles(LATE) == ["Kafka: answers again"]
        assert watch.told_within(STILL_FOR - LOOK, LATE) == []


class TestDoors:
    away = replace(WELL, topic=NoAnswer("Kafka at 127.0.0.1:9092: timed out"))

    def test_kafka_away_is_told_once_for_all_feeds_and_so_is_its_return(self, watch: Watch) -> None:
        sim = replace(self.away, feed="sim", family="sim", table="sim/raw_trades")
        told = watch.told_within(AWAY_FOR + 2 * LOOK, self.away, sim)
        assert told == ["Kafka: does not answer"]
        assert watch.told_within(timedelta(hours=1), self.away, sim) == []

        (alert,) = watch.look()
        assert alert.title == "Kafka: answers again"
        assert alert.kind is AlertKind.RECOVERY
        assert alert.message == "It had given no answer since 2026-11-24 12:00:30 UTC, for 63 minutes."
        assert watch.told_within(timedelta(hours=1)) == []

    def test_a_short_absence_is_not_told(self, watch: Watch) -> None:
        for _ in range(10):
            assert watch.told_within(AWAY_FOR, self.away) == []
            assert watch.look() == []

    def test_a_catalog_and_a_registry_are_told_too(self, watch: Watch) -> None:
        facts = replace(WELL, ledger=NoAnswer("CatalogUnavailable: locked"))
        told = watch.told_within(timedelta(minutes=10), facts, registry=NoAnswer("ConnectError"))
        assert sorted(told) == ["Iceberg catalog: does not answer", "schema registry: does not answer"]

    def test_one_feed_that_cannot_be_looked_at_is_told_by_its_name(self, watch: Watch) -> None:
        sim = replace(
            WELL, feed="sim", family="sim", table="sim/raw_trades", ledger=NoAnswer("FileNotFoundError: metadata.json")
        )
        assert watch.told_within(timedelta(minutes=10), WELL, sim) == ["sim/raw_trades: can't be looked at"]

    def test_what_is_known_of_one_kind_of_a_feed_is_not_taken_for_that_of_another(self, watch: Watch) -> None:
        other = {"family": "asx__marks", "table": "asx/raw_marks", "topic": log((0, 3, 3), topic_id="M1")}
        marks = replace(WELL, **other, ledger=ledger(ranges((0, 0, 3), topic_id="M1")))
        assert watch.told_within(timedelta(minutes=10), WELL, marks) == []
        gone = replace(marks, topic=None)
        assert watch.told_within(timedelta(minutes=10), WELL, gone) == ["asx/raw_marks: topic deleted"]

    def test_a_return_that_could_not_be_sent_is_sent_later(self, watch: Watch) -> None:
        watch.told_within(timedelta(minutes=10), self.away)
        assert len(watch.look(taken=False)) == 1
        assert watch.titles() == ["Kafka: answers again"]


class TestFailingSensors:
    def failing(self, watch: Watch, ticks: int, feed: str | None = "asx") -> tuple[FailingSensor, ...]:
        times = tuple(watch.now - n * timedelta(seconds=5) for n in range(ticks))
        return (FailingSensor("asx_kafka_sensor", feed, feed, times, "K2Error: no"),)

    def test_three_failed_ticks_in_a_row_are_told_once_with_the_error(self, watch: Watch) -> None:
        watch.look()
        watch.look(after=timedelta(minutes=1))
        assert watch.look(failing=self.failing(watch, FAILED_TICKS - 1)) == []
        (alert,) = watch.look(failing=self.failing(watch, FAILED_TICKS))

        assert alert.title == "asx_kafka_sensor: sensor keeps failing"
        assert "The last 3 ticks failed: K2Error: no" in alert.message
        assert watch.look(failing=self.failing(watch, FAILED_TICKS + 4)) == []

    def test_ticks_that_fail_because_a_door_is_away_are_not_told_besides(self, watch: Watch) -> None:
        watch.look()
        for _ in range(20):
            away = watch.titles(TestDoors.away, failing=self.failing(watch, 3))
            assert away in ([], ["Kafka: does not answer"])
        assert watch.titles(failing=self.failing(watch, 3)) == ["Kafka: answers again"]

    def test_a_sensor_of_no_feed_is_told_too(self, watch: Watch) -> None:
        assert len(watch.look(failing=self.failing(watch, FAILED_TICKS, feed=None))) == 1


def test_what_could_not_be_sent_is_due_again(watch: Watch) -> None:
    assert watch.titles(TestTableRolledBack.facts, taken=False) == ["asx/raw_trades: table rolled back"]
    assert watch.titles(TestTableRolledBack.facts) == ["asx/raw_trades: table rolled back"]
    assert watch.titles(TestTableRolledBack.facts) == []


def test_errors_come_before_warnings(watch: Watch) -> None:
    watch.look()
    lost = replace(
        WELL,
        feed="sim",
        family="sim",
        table="sim/raw_trades",
        ledger=ledger(ranges((0, 0, 10)), lost=ranges((1, 0, 1))),
    )
    severities = [alert.severity for alert in watch.look(replace(WELL, topic=TestTopicRecreated.new), lost)]
    assert severities == [Severity.ERROR, Severity.WARN]


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"version":2}', '{"version":1,"topics":{}}'])
def test_what_is_no_memory_is_refused(text: str) -> None:
    with pytest.raises(AlarmMemoryError):
        AlarmMemory.from_json(text)


FEEDS = st.sampled_from(
    [
        WELL,
        LATE,
        TestDoors.away,
        TestTableRolledBack.facts,
        TestTopicDeleted.gone,
        TestOpenTransaction.behind,
        replace(WELL, topic=TestTopicRecreated.new),
        replace(WELL, topic=log((12, 12, 12))),
        replace(WELL, topic=log((0, 6, 6))),
        replace(WELL, ledger=NoAnswer("away")),
    ]
)


@given(st.lists(FEEDS, max_size=30))
def test_after_any_looks_the_memory_reads_back_and_the_same_facts_end_in_silence(looks: list[FeedFacts]) -> None:
    watch = Watch()
    for facts in looks:
        watch.look(facts)
    assert AlarmMemory.from_json(watch.memory).to_json() == watch.memory
    last = looks[-1] if looks else WELL
    watch.told_within(timedelta(minutes=10), last)
    assert watch.told_within(timedelta(hours=1), last) == []


@given(st.lists(FEEDS, min_size=1, max_size=30))
def test_an_alert_that_is_never_taken_stays_due_for_as_long_as_its_cause_lasts(looks: list[FeedFacts]) -> None:
    taken, refused = Watch(), Watch()
    for facts in [*looks, *[looks[-1]] * 30]:
        told = taken.titles(facts)
        due = refused.titles(facts, taken=False)
        assert {title for title in told if not title.endswith("answers again")} <= set(due)


SPAN = (START - timedelta(hours=2), START + timedelta(hours=2))


def in_session(now: datetime) -> Expectation:
    return Expectation(timedelta(minutes=15), False, ((SPAN[0], now),), SPAN[0] - timedelta(days=1), ())


@pytest.mark.parametrize("ahead", [timedelta(days=1), timedelta(days=80_000)])
def test_a_record_whose_time_lies_ahead_does_not_keep_a_silent_feed_from_being_told(ahead: timedelta) -> None:
    watch = Watch()
    titles: list[str] = []
    for _ in range(40):
        now = watch.now + LOOK
        titles += watch.titles(replace(WELL, newest=START + ahead, expected=in_session(now)))
    assert any("silent in its session" in title for title in titles), titles


def test_offsets_of_a_former_topic_that_were_set_aside_unread_are_not_told_as_left_behind() -> None:
    former = (log((0, 10, 10)),)
    left, aside = ledger(ranges((0, 0, 8))), ledger(ranges((0, 0, 8)), set_aside=ranges((0, 8, 10)))
    titles = Watch().titles(replace(WELL, ledger=left, former=former))
    assert any("messages left in a former topic" in title for title in titles)
    titles = Watch().titles(replace(WELL, ledger=aside, former=former))
    assert not any("messages left in a former topic" in title for title in titles)
