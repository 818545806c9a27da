"""Finds what stands against a feed's ingestion right now: facts in, alarms out. ``alarm_memory`` picks those to send.

An alarm is found anew at every look for as long as its cause lasts; its key tells it from any other.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from k2_market.alerting.alarm_facts import AlarmFacts, FeedFacts, LastLook, NoAnswer, Untrusted
from k2_market.alerting.alarm_kinds import AlarmKind
from k2_market.alerting.silence import NEVER_SPOKE_AFTER
from k2_market.feeds.feed import RefusedFile
from k2_market.ledger.ledger import Ledger
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet, named
from k2_market.ledger.topic_state import TopicState
from k2_market.plans.failed_runs import is_resting
from k2_market.plans.ingest_plan import IngestFacts
from k2_market.plans.run_limits import MAX_RUNTIME_SECONDS
from k2_market.quality.finding import Severity

AWAY_FOR = timedelta(minutes=2)
"""Patience with a service that is away: longer than a restart of Kafka, a catalog or a registry takes."""

MISSING_FOR = timedelta(seconds=20)
"""Patience with a missing topic, or a missing end of its log: two rounds of the sensor. A topic that is being made anew
looks like either for a moment."""

OPEN_FOR = timedelta(minutes=5)
"""Five times the time-out that Kafka gives a producer's transaction unless told otherwise; its longest is 15 min."""

STILL_FOR = timedelta(minutes=5)
"""Twenty intervals of the Kafka sensor, which plans what is pending at the first of them."""

CHANGED_FOR = timedelta(minutes=1)
"""Two looks: a file that is being edited is not told of at its first save."""

RUNNING_FOR = timedelta(seconds=MAX_RUNTIME_SECONDS) + timedelta(minutes=15)
"""The longest that a run may take, and a while in the queue."""

FAILED_TICKS = 3
"""One failed tick is put right by the next; three in a row are not chance."""

DISK_FULL_AT = 0.85
"""The share of a disk in use at which a person is warned."""

DISK_STILL_FULL_AT = 0.8
"""Share of a disk in use below which the warning ends."""

DISK_NEARLY_OVER_AT = 0.95

MAX_ENDS_NAMED = 10


@dataclass(frozen=True, order=True)
class AlarmKey:
    """Tells an alarm from any other: what is wrong, with what, and a mark where that can be wrong twice."""

    kind: AlarmKind
    subject: str
    mark: str = ""


@dataclass(frozen=True)
class Alarm:
    """Something is wrong.

    Attributes:
        key: What, with what.
        feed: The feed, if it concerns one.
        severity: ERROR where messages are lost or do not come in, WARN where only doubt is raised.
        message: What is the matter, for a person; where there are ranges it ends before them.
        ranges: The offsets concerned. More of them are news.
        patience: How long it must last before a person is told.
    """

    key: AlarmKey
    feed: str | None
    severity: Severity
    message: str
    ranges: RangeSet = field(default_factory=RangeSet)
    patience: timedelta = timedelta(0)


def alarms(facts: AlarmFacts, last: LastLook) -> list[Alarm]:
    """Return all alarms that the facts give reason for.

    Args:
        facts: What it found.
        last: What is remembered of the looks before it.
    """
    found = [*_doors(facts)]
    then = last.then(facts)
    for feed in facts.feeds:
        remembered = last.topics.get(feed.family, ())
        if isinstance(feed.ledger, Untrusted):
            found.append(_untrusted(feed, feed.ledger))
        if isinstance(feed.ledger, Ledger):
            found += _set_aside(feed, feed.ledger)
        if isinstance(feed.ledger, Ledger) and not isinstance(feed.topic, NoAnswer):
            found += _between_topic_and_ledger(feed, feed.topic, feed.ledger, remembered, facts.now)
            found += _silence(feed, feed.topic, feed.ledger, then, facts.now)
            found += _left_in_former_topics(feed, feed.ledger)
        if isinstance(feed.topic, TopicState):
            found += _open_transactions(feed, feed.topic)
    return [*found, *_failing_sensors(facts, last), *map(_refused, facts.refused), *_platform(facts)]


def unjudged(facts: AlarmFacts) -> frozenset[tuple[AlarmKind, str]]:
    """Return kinds and subjects that the facts do not suffice to judge."""
    unknown: set[tuple[AlarmKind, str]] = set()
    for feed in facts.feeds:
        if isinstance(feed.topic, NoAnswer):
            unknown.add((AlarmKind.OPEN_TRANSACTION, feed.table))
        if isinstance(feed.ledger, NoAnswer):
            unknown |= {(AlarmKind.ROLLED_BACK, feed.table), (AlarmKind.UNTRUSTED, feed.table)}
        if not isinstance(feed.ledger, Ledger):
            unknown |= {(AlarmKind.SET_ASIDE, feed.table), (AlarmKind.UNREAD, feed.table)}
        if not feed.is_fine:
            unknown |= {(kind, feed.table) for kind in _NEED_TOPIC_AND_LEDGER}
            unknown |= {(AlarmKind.SENSOR_FAILS, each.name) for each in facts.failing if each.family == feed.family}
    unknown |= {(AlarmKind.DISK, disk.path) for disk in facts.disks if disk.used >= DISK_STILL_FULL_AT}
    return frozenset(unknown)


_NEED_TOPIC_AND_LEDGER = (
    AlarmKind.TRUNCATED,
    AlarmKind.LOST,
    AlarmKind.RECREATED,
    AlarmKind.DELETED,
    AlarmKind.STANDSTILL,
    AlarmKind.SILENT,
    AlarmKind.EMPTY_SESSION,
    AlarmKind.NEVER_SPOKE,
    AlarmKind.LEFT_BEHIND,
)


def _doors(facts: AlarmFacts) -> Iterator[Alarm]:
    """Yield one alarm for a service that answered for no feed, else one for each feed it gave no answer for."""
    answers: dict[str, dict[str, object]] = {
        "Kafka": {each.table: each.topic for each in facts.feeds},
        "Iceberg catalog": {each.table: each.ledger for each in facts.feeds},
        "schema registry": {"": facts.registry},
    }
    feeds = {each.table: each.feed for each in facts.feeds}
    for service, by_table in answers.items():
        silent = {table: answer for table, answer in by_table.items() if isinstance(answer, NoAnswer)}
        if silent and len(silent) == len(by_table):
            first = next(iter(silent.values()))
            message = _sentence(f"It gives no answer: {first.reason}")
            yield Alarm(AlarmKey(AlarmKind.AWAY, service), None, Severity.ERROR, message, patience=AWAY_FOR)
            continue
        for table, answer in silent.items():
            key = AlarmKey(AlarmKind.NOT_READ, table, service)
            message = _sentence(f"{service} answers for other feeds, not for this one: {answer.reason}")
            yield Alarm(key, feeds[table], Severity.ERROR, message, patience=AWAY_FOR)


def _untrusted(feed: FeedFacts, found: Untrusted) -> Alarm:
    if not found.rolled_back:
        return _alarm(feed, AlarmKind.UNTRUSTED, _sentence(found.reason), mark=found.reason)
    message = "The table was rolled back to an older snapshot. Offsets whose rows are not in it any more"
    if not found.ranges:
        message += " are not known: their snapshots have expired."
    return _alarm(feed, AlarmKind.ROLLED_BACK, message, mark=found.reason, ranges=found.ranges)


def _between_topic_and_ledger(
    feed: FeedFacts, topic: TopicState | None, ledger: Ledger, remembered: tuple[TopicState, ...], now: datetime
) -> Iterator[Alarm]:
    lost = ledger.lost | (RangeSet() if topic is None else topic.removed - ledger.settled)
    if lost:
        yield _alarm(feed, AlarmKind.LOST, "Retention removed offsets before they were read", ranges=lost)
    if topic is None:
        yield from _deleted(feed, ledger, remembered)
        return
    yield from _recreated(feed, topic, ledger, remembered)
    truncated = topic.unreached(ledger.covered) | ledger.truncated.of_topic(topic.topic_id)
    if truncated:
        message = (
            f"The broker lost what it had acknowledged. Offsets of the ledger that the log of {topic.name} ended before"
        )
        alarm = _alarm(feed, AlarmKind.TRUNCATED, message, mark=topic.topic_id, ranges=truncated)
        yield replace(alarm, patience=MISSING_FOR)
    else:
        yield from _standstill(feed, IngestFacts(topic, ledger, feed.in_flight, feed.failed, now))


def _set_aside(feed: FeedFacts, ledger: Ledger) -> Iterator[Alarm]:
    kept = ledger.set_aside & ledger.covered
    if kept:
        message = "Every run that decoded one of these messages failed, so they were set aside"
        yield _alarm(feed, AlarmKind.SET_ASIDE, message, ranges=kept)
    if ledger.unread:
        message = "Every run that read at these offsets failed, so they were set aside"
        yield _alarm(feed, AlarmKind.UNREAD, message, ranges=ledger.unread)


def _deleted(feed: FeedFacts, ledger: Ledger, remembered: tuple[TopicState, ...]) -> Iterator[Alarm]:
    ids = _earlier_ids(feed, ledger, remembered, current="")
    if ids:
        missing, story = _left_behind(ids, ledger, remembered)
        message = f"{feed.topic_name} (topic id {', '.join(ids)}) does not exist any more. {story}"
        alarm = _alarm(feed, AlarmKind.DELETED, message, mark=ids[-1], ranges=missing)
        yield replace(alarm, patience=MISSING_FOR)


def _recreated(
    feed: FeedFacts, topic: TopicState, ledger: Ledger, remembered: tuple[TopicState, ...]
) -> Iterator[Alarm]:
    ids = _earlier_ids(feed, ledger, remembered, current=topic.topic_id)
    if ids:
        missing, story = _left_behind(ids, ledger, remembered)
        message = f"{topic.name} was made anew: its topic id was {', '.join(ids)} and is {topic.topic_id}. {story}"
        alarm = _alarm(feed, AlarmKind.RECREATED, message, mark=topic.topic_id, ranges=missing)
        yield alarm if missing else replace(alarm, severity=Severity.WARN)


def _earlier_ids(feed: FeedFacts, ledger: Ledger, remembered: tuple[TopicState, ...], current: str) -> tuple[str, ...]:
    """Return the topic before the current one: the last that was seen, else those in the ledger by its name."""
    seen = [each.topic_id for each in remembered if each.name == feed.topic_name and each.topic_id != current]
    if seen:
        return (seen[-1],)
    return tuple(
        topic_id
        for topic_id, name in sorted(ledger.topic_names.items())
        if name == feed.topic_name and topic_id != current
    )


def _left_behind(ids: tuple[str, ...], ledger: Ledger, remembered: tuple[TopicState, ...]) -> tuple[RangeSet, str]:
    """Return the offsets of deleted topics that were seen and never ingested, and sentences about them."""
    story = f"The ledger has {_ends(ids, ledger)} of it. "
    gone = [each for each in remembered if each.topic_id in ids]
    if not gone:
        return RangeSet(), story + "How far it went was never looked at."
    missing = RangeSet.of(_whole(gone)) - ledger.settled - ledger.lost
    return missing, story + ("Seen of it and never ingested" if missing else "It held no more when seen last.")


def _ends(ids: tuple[str, ...], ledger: Ledger) -> str:
    """Tell how far the ledger goes in each partition of some topics."""
    ends = [f"partition {key[1]} to {spans[-1][1]}" for key, spans in ledger.covered.spans.items() if key[0] in ids]
    more = len(ends) - MAX_ENDS_NAMED
    return ", ".join([*ends[:MAX_ENDS_NAMED], *([f"{more} more partitions"] if more > 0 else [])]) or "nothing"


def _whole(topics: Iterable[TopicState]) -> Iterator[OffsetRange]:
    for topic in topics:
        yield from (OffsetRange(topic.topic_id, each.partition, 0, each.high) for each in topic.partitions if each.high)


def _open_transactions(feed: FeedFacts, topic: TopicState) -> Iterator[Alarm]:
    for each in topic.partitions:
        if each.stable_end < each.high:
            message = (
                f"Partition {each.partition} of {topic.name}: {each.high - each.stable_end} offsets wait behind an "
                f"open transaction at offset {each.stable_end}."
            )
            mark = f"{topic.topic_id}/{each.partition}@{each.stable_end}"
            alarm = _alarm(feed, AlarmKind.OPEN_TRANSACTION, message, mark=mark)
            yield replace(alarm, patience=OPEN_FOR)


def _standstill(feed: FeedFacts, facts: IngestFacts) -> Iterator[Alarm]:
    waiting = facts.topic.readable - facts.ledger.settled
    # For longer than its offsets rest, where it is halved: the next look comes between two of many short runs.
    rests = any(
        is_resting(run.ended, run.attempt, facts.now) and not run.ranges.isdisjoint(waiting) for run in feed.failed
    )
    if not waiting or rests:
        return
    message = f"{len(waiting)} messages of {facts.topic.name} wait and nothing was committed, "
    if feed.in_flight:
        message += f"with {len(feed.in_flight)} ingest runs queued or under way: {named(waiting)}."
        alarm = _alarm(feed, AlarmKind.STANDSTILL, message, mark=f"{facts.ledger.batch_id} in flight")
        yield replace(alarm, patience=RUNNING_FOR)
    else:
        message += f"though no run is in flight and none failed: {named(waiting)}."
        alarm = _alarm(feed, AlarmKind.STANDSTILL, message, mark=facts.ledger.batch_id)
        yield replace(alarm, patience=STILL_FOR)


def _silence(
    feed: FeedFacts, topic: TopicState | None, ledger: Ledger, then: LastLook, now: datetime
) -> Iterator[Alarm]:
    expected = feed.expected
    if expected is None:
        return
    if not ledger.settled and (topic is None or not any(each.high for each in topic.partitions)):
        since = then.first[feed.family]
        if now - since >= NEVER_SPOKE_AFTER:
            message = f"{feed.topic_name} never held a message since the feed was first looked at, {_at(since)}."
            yield replace(_alarm(feed, AlarmKind.NEVER_SPOKE, message), severity=Severity.WARN)
        return
    # A producer may write any time into a record: one that lies ahead tells that the feed spoke, and not when.
    spoke = feed.newest if feed.newest is None or feed.newest <= now else expected.live_from
    lasting = expected.silent_for(spoke, then.heard[feed.family])
    if lasting is not None:
        newest = "" if feed.newest is None else f" The newest is of {_at(feed.newest)}."
        minutes = int(lasting.total_seconds() // 60)
        message = f"No message in {feed.topic_name} for {minutes} minutes of open session.{newest}"
        mark = f"{expected.open_spans[0][0]:%Y-%m-%d}"
        severity = Severity.ERROR if expected.declared else Severity.WARN
        yield replace(_alarm(feed, AlarmKind.SILENT, message, mark=mark), severity=severity)
    if topic is None or not topic.readable - ledger.settled:
        for day in expected.days_without_trades(feed.days):
            message = f"The session of {day} closed without a trade."
            alarm = _alarm(feed, AlarmKind.EMPTY_SESSION, message, mark=f"{day}")
            yield replace(alarm, severity=Severity.WARN, patience=expected.limit)


def _left_in_former_topics(feed: FeedFacts, ledger: Ledger) -> Iterator[Alarm]:
    for topic in feed.former:
        left = topic.readable - ledger.settled
        if left:
            message = f"The feed's topic was {topic.name} and is {feed.topic_name}; never read of the former"
            yield _alarm(feed, AlarmKind.LEFT_BEHIND, message, mark=topic.topic_id, ranges=left)


def _platform(facts: AlarmFacts) -> Iterator[Alarm]:
    """Find what concerns no single feed: changed feed files, closed pools, full disks."""
    if facts.changed:
        changes = "; ".join(facts.changed)
        key = AlarmKey(AlarmKind.FEEDS_CHANGED, "feed files", changes)
        yield Alarm(key, None, Severity.WARN, f"Since the stack was started: {changes}.", patience=CHANGED_FOR)
    for pool in facts.closed_pools:
        key = AlarmKey(AlarmKind.POOL_CLOSED, f"pool {pool}")
        yield Alarm(key, None, Severity.ERROR, f"The limit of pool {pool} is 0.")
    for disk in facts.disks:
        if disk.used >= DISK_FULL_AT:
            nearly_over = disk.used >= DISK_NEARLY_OVER_AT
            message = f"{disk.used:.0%} of the disk of {disk.path} is in use, {disk.free / 2**30:.1f} GiB are free."
            key = AlarmKey(AlarmKind.DISK, disk.path, "nearly full" if nearly_over else "")
            yield Alarm(key, None, Severity.ERROR if nearly_over else Severity.WARN, message)


def _at(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"


def _refused(file: RefusedFile) -> Alarm:
    key = AlarmKey(AlarmKind.FEED_REFUSED, file.name, file.reason)
    return Alarm(key, None, Severity.ERROR, _sentence(f"{file.path} declares no feed that can be used: {file.reason}"))


def _failing_sensors(facts: AlarmFacts, last: LastLook) -> Iterator[Alarm]:
    """Yield sensors that fail although the services of their feed answer; otherwise those are alerted."""
    fine = {each.family for each in facts.feeds if each.is_fine}
    for sensor in facts.failing:
        if sensor.family is not None and sensor.family not in fine:
            continue
        since = None if sensor.family is None else last.fine_since.get(sensor.family, facts.now)
        failed = [each for each in sensor.failed if since is None or each > since]
        if len(failed) >= FAILED_TICKS:
            message = _sentence(f"The last {len(failed)} ticks failed: {sensor.error}")
            yield Alarm(AlarmKey(AlarmKind.SENSOR_FAILS, sensor.name), sensor.feed, Severity.ERROR, message)


def _alarm(feed: FeedFacts, kind: AlarmKind, message: str, *, mark: str = "", ranges: RangeSet | None = None) -> Alarm:
    return Alarm(AlarmKey(kind, feed.table, mark), feed.feed, Severity.ERROR, message, ranges or RangeSet())


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
