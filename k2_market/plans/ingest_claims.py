"""Decides whether the claims of an ingest run's config are true, before any of them is recorded.

A run's configuration names offsets to read, offsets that retention removed and offsets that the log lost. The Kafka
sensor writes it from facts; anyone who may start a run writes it from anything. What is recorded stays: offsets said to
be truncated halt their topic (#033), and what is set aside is decoded no more (#051). So the run itself looks each of
them up (#049).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from k2_market.errors import K2Error
from k2_market.ledger.ledger import Ledger
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet, named
from k2_market.ledger.topic_state import PartitionState, TopicState
from k2_market.messages.log_comparison import ComparedOffsets
from k2_market.plans.failed_runs import FailedRun, Handling, next_try

Spans = Mapping[str, Sequence[Sequence[int]]]
"""Offset ranges of a run's configuration: partition to its ``[start, end]`` pairs."""


_LAST_OFFSET = 2**63 - 1


class WrongClaim(K2Error):
    """A run's config claims something untrue about its topic; nothing was read or recorded."""


@dataclass(frozen=True)
class IngestClaims:
    """Holds the claims of a run's config about its topic.

    Attributes:
        topic_id: The topic's id.
        ranges: To be read.
        lost: Removed by retention before they were read.
        truncated: In the ledger, and not in the log any more.
        handling: What to do with the messages of ``ranges``.
        failed_attempts: After how many failed attempts they are to be set aside, once that has been looked up.
    """

    topic_id: str
    ranges: RangeSet = field(default_factory=RangeSet)
    lost: RangeSet = field(default_factory=RangeSet)
    truncated: RangeSet = field(default_factory=RangeSet)
    handling: Handling = Handling.DECODE
    failed_attempts: int = 0

    @classmethod
    def parse(
        cls, topic_id: str, ranges: Spans, lost: Spans, truncated: Spans, handling: str = Handling.DECODE.value
    ) -> "IngestClaims":
        """Read the claims that a configuration writes.

        Raises:
            WrongClaim: A partition, a span or the handling is none; there are offsets and no topic id; or messages are
                to be set aside and none are named, or the log is said to be cut off as well.
        """
        texts = {"ranges": ranges, "lost": lost, "truncated": truncated}
        found = {key: RangeSet.of(_parsed(topic_id, key, spans)) for key, spans in texts.items()}
        if not topic_id and any(found.values()):
            keys = ", ".join(key for key, spans in found.items() if spans)
            raise WrongClaim(
                f"topic_id is empty, and {keys} name offsets: expected the id of the topic that they are of"
            )
        kinds = [each.value for each in Handling]
        if handling not in kinds:
            raise WrongClaim(f"handling: found {handling!r}; expected {', '.join(map(repr, kinds))}")
        if handling != Handling.DECODE and (not found["ranges"] or found["truncated"]):
            wrong = "truncated offsets beside them" if found["ranges"] else "no ranges"
            raise WrongClaim(f"handling {handling!r}: found {wrong}; expected ranges of messages to set aside, alone")
        return cls(topic_id, found["ranges"], found["lost"], found["truncated"], Handling(handling))

    def reached(self, topic: TopicState, ledger: Ledger) -> RangeSet:
        """Return offsets claimed to be truncated that the log still reaches: its messages there are to be compared."""
        return self.truncated & ledger.covered & topic.readable


def _parsed(topic_id: str, key: str, spans: Spans) -> Iterator[OffsetRange]:
    for partition, pairs in spans.items():
        for pair in pairs:
            try:
                start, end = pair
                found = OffsetRange(topic_id, int(partition), start, end)
            except ValueError:
                found = None
            if found is None or found.end > _LAST_OFFSET:
                raise WrongClaim(
                    f"{key}: found partition {partition!r}, offsets {list(pair)}; expected the number of a partition, "
                    "the first offset, and the one after the last"
                )
            yield found


@dataclass(frozen=True)
class ClaimFacts:
    """All that the decision depends on.

    Attributes:
        topic: The topic's log, looked at after the ledger.
        ledger: The raw table's ledger.
        compared: The offsets ``reached``, compared with what the log has there.
        failed: The feed's failed runs, where messages are to be set aside.
    """

    topic: TopicState
    ledger: Ledger
    compared: ComparedOffsets = field(default_factory=ComparedOffsets)
    failed: Sequence[FailedRun] = ()


def admitted(claims: IngestClaims, facts: ClaimFacts) -> IngestClaims:
    """Tell what of a run's claims is to be read and recorded.

    All of it; but of offsets that are said to be cut off those alone that are, where the log has something else at some
    of them. That is seen this once: at the next look the log may reach as far as the ledger.

    Raises:
        WrongClaim: Something of them is not so; names each partition and its offsets.
    """
    wrong = [*_ranges(claims, facts), *_lost(claims, facts.topic), *_handling(claims, facts.failed)]
    truncated = claims.truncated
    if facts.compared.other:
        truncated = (truncated & facts.ledger.covered) - facts.compared.same - facts.compared.unknown
        truncated = truncated - facts.topic.removed
    else:
        wrong += _truncated(claims, facts)
    if wrong:
        raise WrongClaim(
            f"{facts.topic.name} ({facts.topic.topic_id}) is not as the run was told, so it reads and records nothing: "
            f"{'; '.join(wrong)}"
        )
    attempts = 0 if claims.handling is Handling.DECODE else _attempts(claims.ranges, facts.failed)
    return replace(claims, truncated=truncated, failed_attempts=attempts)


def _handling(claims: IngestClaims, failed: Sequence[FailedRun]) -> Iterator[str]:
    """Hold what is to be done with messages against what the runs that failed of them call for."""
    if claims.handling is Handling.DECODE:
        return
    due = next_try(claims.ranges, failed)
    called_for = Handling.DECODE if due is None or due.ranges != claims.ranges else due.handling
    # A run that was to keep the bytes may have failed since; keeping them is never more than is called for by then.
    if called_for is claims.handling or (called_for, claims.handling) == (Handling.SKIP, Handling.KEEP_BYTES):
        return
    attempts = _attempts(claims.ranges, failed)
    yield (
        f"handling {claims.handling.value!r} of {named(claims.ranges)}: {attempts} attempts at them are known to have "
        f"failed, which call for {called_for.value!r}"
    )


def _attempts(ranges: RangeSet, failed: Sequence[FailedRun]) -> int:
    return max((run.attempt for run in failed if not run.ranges.isdisjoint(ranges)), default=0)


def _ranges(claims: IngestClaims, facts: ClaimFacts) -> Iterator[str]:
    cut = facts.ledger.truncated.of_topic(claims.topic_id)
    if claims.ranges and cut:
        yield halted(facts.topic.name, cut)
    for each, log in _with_log(claims.ranges, facts.topic):
        if log is None:
            yield f"ranges: {_no_partition(each, facts.topic)}"
        elif each.end > log.high:
            yield f"ranges: partition {each.partition} offsets [{each.start}, {each.end}): its log ends at {log.high}"


def _lost(claims: IngestClaims, topic: TopicState) -> Iterator[str]:
    for each, log in _with_log(claims.lost, topic):
        if log is None:
            yield f"lost: {_no_partition(each, topic)}"
        elif each.end > log.low:
            first = max(each.start, log.low)
            yield (
                f"lost: partition {each.partition} offsets [{first}, {each.end}): its log begins at {log.low}, so "
                "retention did not remove them"
            )


def _truncated(claims: IngestClaims, facts: ClaimFacts) -> Iterator[str]:
    for each, log in _with_log(claims.truncated, facts.topic):
        if log is None:
            yield f"truncated: {_no_partition(each, facts.topic)}"
            continue
        own = RangeSet.of([each])
        bounds = f"its log reaches from {log.low} to {log.stable_end}"
        why = (
            (own - facts.ledger.covered, "they are not in the ledger, so nothing of it was cut off"),
            (own & facts.compared.same, f"{bounds} and has the same messages there as the table has rows"),
            (own & facts.compared.unknown, f"{bounds}, and whether it has there what the table has can't be told"),
            (own & facts.ledger.covered & facts.topic.removed, f"{bounds}: retention removed them"),
        )
        for ranges, reason in why:
            for wrong in ranges:
                yield f"truncated: partition {wrong.partition} offsets [{wrong.start}, {wrong.end}): {reason}"


def _with_log(ranges: RangeSet, topic: TopicState) -> Iterator[tuple[OffsetRange, PartitionState | None]]:
    logs = {each.partition: each for each in topic.partitions}
    for each in ranges:
        yield each, logs.get(each.partition)


def _no_partition(found: OffsetRange, topic: TopicState) -> str:
    numbers = [each.partition for each in topic.partitions]
    there = f"partitions {min(numbers)} to {max(numbers)}" if numbers else "no partitions"
    return f"partition {found.partition} offsets [{found.start}, {found.end}): the topic has {there}"


def halted(topic_name: str, cut: RangeSet) -> str:
    """Tell why nothing of a topic is ingested whose log ended before offsets of the ledger, and what to do."""
    return (
        f"halted: the log of {topic_name} ended before offsets that are in the ledger: {named(cut)}. "
        "`k2 repair --feed … --unhalt` shows what it has there by now, and ends the halt where that is what was "
        "ingested. Where it is something else, create the topic anew: its new id is ingested by itself"
    )
