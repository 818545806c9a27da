"""Decides which ingest alarms are sent to a person: each once when it begins, and once when it ends.

An alarm is told when it has lasted as long as its kind asks for, and again only when it has more ranges, or after it
had gone. The return of a service whose absence was told is told too.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby
from typing import Any

from k2_market.alerting.alarm_facts import AlarmFacts, LastLook
from k2_market.alerting.alarm_kinds import ADVICE, AlarmKind
from k2_market.alerting.alerts import Alert, AlertKind
from k2_market.alerting.ingest_alarms import Alarm, AlarmKey, alarms, unjudged
from k2_market.errors import K2Error
from k2_market.ledger.offset_ranges import MAX_RANGES_NAMED, OffsetRange, RangeSet, named
from k2_market.ledger.topic_state import PartitionState, TopicState
from k2_market.quality.finding import Severity

_VERSION = 1


class AlarmMemoryError(K2Error):
    """A text is not a memory of alarms, or one of another version."""


@dataclass(frozen=True)
class Standing:
    """Represents a standing alarm: since when, and which ranges were sent to a person."""

    since: datetime
    told: RangeSet | None = None


@dataclass(frozen=True)
class Notice:
    """An alert to send, and what is settled by having sent it."""

    alert: Alert
    told: Mapping[AlarmKey, RangeSet] = field(default_factory=dict)
    ended: AlarmKey | None = None


@dataclass(frozen=True)
class AlarmMemory:
    """Describes what is kept between two looks."""

    last_look: LastLook = field(default_factory=LastLook)
    standing: Mapping[AlarmKey, Standing] = field(default_factory=dict)

    def after(self, facts: AlarmFacts) -> tuple["AlarmMemory", tuple[Notice, ...]]:
        """Return the memory after a round of facts, and the notices to send, errors first."""
        found = alarms(facts, self.last_look)
        standing = {each.key: self.standing.get(each.key, Standing(facts.now)) for each in found}
        unknown = unjudged(facts)
        ended = []
        for key, before in self.standing.items():
            if key in standing or before.told is None:
                continue
            if key.kind is AlarmKind.AWAY:
                ended.append(key)
                standing[key] = before
            elif (key.kind, key.subject) in unknown:
                standing[key] = before
        due = [each for each in found if _is_due(each, standing[each.key], facts.now)]
        notices = [*_notices(due, standing), *(_answers_again(key, standing[key], facts.now) for key in ended)]
        notices.sort(key=lambda each: each.alert.severity is not Severity.ERROR)
        return AlarmMemory(self.last_look.then(facts), standing), tuple(notices)

    def sent(self, notice: Notice) -> "AlarmMemory":
        """Return the memory after a notice was taken."""
        told = {
            key: replace(self.standing[key], told=(self.standing[key].told or RangeSet()) | ranges)
            for key, ranges in notice.told.items()
        }
        kept = {key: each for key, each in self.standing.items() if key != notice.ended}
        return replace(self, standing={**kept, **told})

    def to_json(self) -> str:
        """Return the memory as text."""
        content = {
            "version": _VERSION,
            "topics": {
                feed: [_topic_to_json(each) for each in topics] for feed, topics in self.last_look.topics.items()
            },
            "fine_since": _times_to_json(self.last_look.fine_since),
            "first": _times_to_json(self.last_look.first),
            "heard": _times_to_json(self.last_look.heard),
            "at": None if self.last_look.at is None else self.last_look.at.isoformat(),
            "standing": [
                {
                    "key": [key.kind.name, key.subject, key.mark],
                    "since": each.since.isoformat(),
                    "told": None if each.told is None else [str(ranges) for ranges in each.told],
                }
                for key, each in sorted(self.standing.items())
            ],
        }
        return json.dumps(content, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "AlarmMemory":
        """Return the memory that a text stands for.

        Raises:
            AlarmMemoryError: It stands for none.
        """
        try:
            content = json.loads(text)
            if content["version"] != _VERSION:
                raise AlarmMemoryError(f"memory of alarms of version {content['version']}, expected {_VERSION}")
            topics = {feed: tuple(map(_topic_from_json, each)) for feed, each in content["topics"].items()}
            last_look = LastLook(
                topics=topics,
                fine_since=_times_from_json(content["fine_since"]),
                first=_times_from_json(content.get("first", {})),
                heard=_times_from_json(content.get("heard", {})),
                at=None if content.get("at") is None else datetime.fromisoformat(content["at"]),
            )
            return cls(last_look, dict(map(_standing_from_json, content["standing"])))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise AlarmMemoryError(f"not a memory of alarms: {error!r} in {text[:200]!r}") from error


def _is_due(alarm: Alarm, standing: Standing, now: datetime) -> bool:
    if now - standing.since < alarm.patience:
        return False
    return standing.told is None or bool(alarm.ranges - standing.told)


def _notices(due: Iterable[Alarm], standing: Mapping[AlarmKey, Standing]) -> list[Notice]:
    """Return one notice for all due alarms of one kind and subject, such as thirty partitions behind one producer."""
    in_order = sorted(due, key=lambda each: (each.key.kind, each.key.subject))
    groups = groupby(in_order, key=lambda each: (each.key.kind, each.key.subject))
    return [_notice(list(group), standing) for _, group in groups]


def _notice(group: list[Alarm], standing: Mapping[AlarmKey, Standing]) -> Notice:
    first = group[0]
    new = {each.key: each.ranges - (standing[each.key].told or RangeSet()) for each in group}
    sentences = [f"{each.message}: {named(new[each.key])}." if new[each.key] else each.message for each in group]
    more = len(sentences) - MAX_RANGES_NAMED
    told = [*sentences[:MAX_RANGES_NAMED], *([f"And {more} more."] if more > 0 else [])]
    numbers: dict[str, int | float | str] = {}
    if any(new.values()):
        numbers["offsets"] = sum(map(len, new.values()))
    if first.patience:
        numbers["since"] = _at(min(standing[each.key].since for each in group))
    alert = Alert(
        kind=AlertKind.INGEST,
        severity=first.severity,
        feed=first.feed,
        day=None,
        subject=first.key.subject,
        check=None,
        message=" ".join([*told, ADVICE[first.key.kind].replace("{feed}", first.feed or "")]),
        run_id=None,
        numbers=numbers,
        headline=first.key.kind.value,
    )
    return Notice(alert, told=new)


def _answers_again(key: AlarmKey, standing: Standing, now: datetime) -> Notice:
    minutes = round((now - standing.since).total_seconds() / 60)
    alert = Alert(
        kind=AlertKind.RECOVERY,
        severity=Severity.WARN,
        feed=None,
        day=None,
        subject=key.subject,
        check=None,
        message=f"It had given no answer since {_at(standing.since)}, for {minutes} minutes.",
        run_id=None,
        headline="answers again",
    )
    return Notice(alert, ended=key)


def _at(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"


def _times_to_json(times: Mapping[str, datetime]) -> dict[str, str]:
    return {name: instant.isoformat() for name, instant in times.items()}


def _times_from_json(content: Mapping[str, str]) -> dict[str, datetime]:
    return {name: datetime.fromisoformat(instant) for name, instant in content.items()}


def _topic_to_json(topic: TopicState) -> list[Any]:
    return [topic.name, topic.topic_id, [[p.partition, p.low, p.stable_end, p.high] for p in topic.partitions]]


def _topic_from_json(content: list[Any]) -> TopicState:
    name, topic_id, partitions = content
    return TopicState(name, topic_id, tuple(PartitionState(*each) for each in partitions))


def _standing_from_json(content: dict[str, Any]) -> tuple[AlarmKey, Standing]:
    kind, subject, mark = content["key"]
    told = None if content["told"] is None else RangeSet.of(map(OffsetRange.parse, content["told"]))
    return AlarmKey(AlarmKind[kind], subject, mark), Standing(datetime.fromisoformat(content["since"]), told)
