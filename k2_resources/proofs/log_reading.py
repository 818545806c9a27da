"""Reads what the broker retains of a ledger's topic, and compares it with the rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import polars as pl

from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.raw_kind import RawKind
from k2_market.ledger.topic_state import TopicState
from k2_market.messages.batch import MessageBatch
from k2_market.messages.writer_schemas import WriterSchema
from k2_market.verification.ledger_claims import LedgerClaims
from k2_market.verification.ledger_verification import LogAccount, RowAccount
from k2_market.verification.message_comparison import ComparedColumns, Comparison, schema_ids, trading_days
from k2_market.verification.offset_accounts import (
    bridged,
    difference,
    intersection,
    offsets_in,
    ranges,
    ranges_of_offsets,
    texts,
    union,
)
from k2_resources.kafka.schema_registry import SchemaRegistry, SchemaUnavailable
from k2_resources.proofs.retained_messages import RetainedMessages
from k2_resources.proofs.row_chunks import RowChunks, Window, windows

OFFSETS_PER_WINDOW = 50_000
"""Offsets whose messages and rows are in memory at once."""
_READ_THROUGH = 20_000
"""Offsets between two spans that are read along: cheaper than a jump."""
_NOTHING = ranges([])

Progress = Callable[[int, int], None]
"""Told how many offsets have been gone through, and how many there are."""


@dataclass
class LogReading:
    """Goes through what a broker retains of a feed's topic, once.

    Attributes:
        feed: Whose topic it is.
        kind: What the topic has.
        messages: The broker's messages.
        registry: Their schemas.
        day: The trading day that it is about; None for all.
        progress: Is told how far it is.
        comparison: What came of holding rows against messages.
        not_looked_at: What of the ledger the broker does not retain.
    """

    feed: Feed
    kind: RawKind
    messages: RetainedMessages
    registry: SchemaRegistry
    day: date | None
    progress: Progress
    comparison: Comparison = field(init=False)
    not_looked_at: list[str] = field(default_factory=list)
    _schemas: dict[int, WriterSchema] = field(default_factory=dict)
    _asked_for: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Begin with nothing compared."""
        self.comparison = Comparison(ComparedColumns.of(self.kind.messages))

    def read(self, claims: LedgerClaims, rows: RowAccount, chunks: RowChunks) -> LogAccount | None:
        """Read what is retained and hold the rows against it; None where the topic is not there.

        Args:
            claims: The ledger.
            rows: The rows' offsets.
            chunks: The rows, after their offsets have been read.

        Raises:
            KafkaUnavailable: The broker does not answer.
            RegistryUnavailable: The registry does not.
            RetentionOvertook: Messages were removed while they were read.
        """
        state = self.messages.state()
        if state is None:
            self.not_looked_at.append(f"the broker: it has no topic {self.kind.topic(self.feed)}")
            return None
        account = _watermarks(state, claims)
        wanted = self._wanted(state, account, claims, rows)
        self._tell_what_is_left_out(state, account, claims)
        spans = difference(difference(bridged(wanted, _READ_THROUGH), claims.truncated), claims.unread)
        given, perhaps_lost = self._go_through(state.topic_id, spans, claims, chunks)
        due = given
        if self.day is not None:
            candidates = intersection(union(_NOTHING, *perhaps_lost), wanted)
            due = [difference(candidates, chunks.rows_at(candidates))]
        return LogAccount(
            topic_id=account.topic_id,
            retained=account.retained,
            removed=account.removed,
            beyond=account.beyond,
            asked=wanted,
            given=union(_NOTHING, *given),
            due=union(_NOTHING, *due),
            compacted=self.messages.compacted(),
        )

    def _wanted(self, state: TopicState, account: LogAccount, claims: LedgerClaims, rows: RowAccount) -> pl.DataFrame:
        """Tell what is read: all that is retained of the ledger, or what of it is the day's."""
        retained = intersection(difference(claims.covered, claims.truncated), account.retained)
        if self.day is None:
            return retained
        by_time = self.messages.day_spans(state, *TradingCalendar.of(self.feed).instants_of(self.day))
        return intersection(retained, union(rows.rows, by_time))

    def _tell_what_is_left_out(self, state: TopicState, account: LogAccount, claims: LedgerClaims) -> None:
        own = claims.covered.filter(pl.col("topic_id") == state.topic_id)
        gone = difference(own, account.retained)
        if gone.height:
            self.not_looked_at.append(
                f"content of {offsets_in(gone):,} offsets that the broker does not retain: {_few(gone)}"
            )
        for topic_id in sorted(set(claims.covered["topic_id"]) - {state.topic_id}):
            other = claims.covered.filter(pl.col("topic_id") == topic_id)
            self.not_looked_at.append(
                f"content of {offsets_in(other):,} offsets of topic {topic_id}: the broker's "
                f"{self.kind.topic(self.feed)} is {state.topic_id} now"
            )

    def _go_through(
        self, topic_id: str, spans: pl.DataFrame, claims: LedgerClaims, chunks: RowChunks
    ) -> tuple[list[pl.DataFrame], list[pl.DataFrame]]:
        """Return ranges of all messages, and of those that should be rows of the day and have none."""
        given: list[pl.DataFrame] = []
        perhaps_lost: list[pl.DataFrame] = []
        gone_through, total = 0, offsets_in(spans)
        for window in self._windows(spans, chunks):
            messages = self.messages.read(topic_id, window)
            rows = chunks.rows_within(topic_id, window, self.comparison.columns.names)
            self.comparison.add(messages, rows, self._schemas_of(messages, rows))
            offsets = _offsets(messages)
            given.append(ranges_of_offsets(offsets))
            if self.day is not None:
                perhaps_lost.append(ranges_of_offsets(self._without_row(messages, offsets, rows, claims)))
            gone_through += sum(end - start for start, end in window.values())
            self.progress(gone_through, total)
        return given, perhaps_lost

    def _windows(self, spans: pl.DataFrame, chunks: RowChunks) -> Iterator[Window]:
        """Yield the spans cut as the rows' files lie, so that each file is read about once; then those without rows."""
        left = spans
        for of_chunk in chunks.ranges:
            own = intersection(bridged(union(of_chunk), _READ_THROUGH), left)
            yield from windows(own, OFFSETS_PER_WINDOW)
            left = difference(left, own)
        yield from windows(left, OFFSETS_PER_WINDOW)

    def _schemas_of(self, messages: MessageBatch, rows: pl.DataFrame) -> dict[int, WriterSchema]:
        """Ask for the schemas that messages name; first for those that rows were decoded with, which must be known."""
        decoded = set(rows.filter(pl.col("reject_reason").is_null())["schema_id"].drop_nulls())
        for ids in (decoded, schema_ids(messages.values)):
            self._ask_for(ids - self._asked_for)
        return self._schemas

    def _ask_for(self, ids: set[int]) -> None:
        self._asked_for |= ids
        while ids:
            try:
                self._schemas |= self.registry.writer_schemas(ids)
                return
            except SchemaUnavailable as error:
                ids = ids - {error.schema_id}
                self.not_looked_at.append(f"what messages of schema id {error.schema_id} say: {error}")

    def _without_row(
        self, messages: MessageBatch, offsets: pl.DataFrame, rows: pl.DataFrame, claims: LedgerClaims
    ) -> pl.DataFrame:
        """Find the messages of the day, by what they say or else by their time, that are not among its rows.

        Those that were set aside are taken to be there: they are dead letters of some day, and whatever decodes them
        fails.
        """
        present = rows.select(pl.col("kafka_partition").alias("partition"), pl.col("kafka_offset").alias("offset"))
        aside = [
            {"partition": partition, "offset": offset}
            for topic_id, partition, start, end in claims.set_aside.iter_rows()
            for offset in range(start, end)
            if topic_id == messages.topic_id
        ]
        present = pl.concat([present, pl.DataFrame(aside, present.schema)])
        left = offsets.with_row_index("place").join(present, on=["partition", "offset"], how="anti")
        places = left["place"].to_list()
        days = trading_days([messages.values[place] for place in places], self._schemas)
        sent = [messages.timestamps_ms[place] for place in places]
        of_day = [(day or self._local_day(at)) == self.day for day, at in zip(days, sent, strict=True)]
        return left.filter(pl.Series(of_day, dtype=pl.Boolean))

    def _local_day(self, timestamp_ms: int) -> date | None:
        try:
            return datetime.fromtimestamp(timestamp_ms / 1000, UTC).astimezone(self.feed.zone).date()
        except (ValueError, OverflowError, OSError):
            return None


def _watermarks(state: TopicState, claims: LedgerClaims) -> LogAccount:
    own = claims.covered.filter(pl.col("topic_id") == state.topic_id)

    def spans(start: Callable[[int, int, int], tuple[int, int]]) -> pl.DataFrame:
        bounds = ((each.partition, *start(each.low, each.stable_end, each.high)) for each in state.partitions)
        return ranges((state.topic_id, partition, first, last) for partition, first, last in bounds if last > first)

    return LogAccount(
        topic_id=state.topic_id,
        retained=spans(lambda low, stable, _: (low, stable)),
        removed=spans(lambda low, _, __: (0, low)),
        beyond=difference(own, spans(lambda _, __, high: (0, high))),
    )


def _offsets(messages: MessageBatch) -> pl.DataFrame:
    kinds = {"partition": pl.Int32, "offset": pl.Int64}
    found = pl.DataFrame({"partition": messages.partitions, "offset": messages.offsets}, schema=kinds)
    return found.with_columns(pl.lit(messages.topic_id).alias("topic_id"))


def _few(found: pl.DataFrame) -> str:
    places = texts(found)
    return ", ".join(places[:5]) + (f" and {len(places) - 5} more" if len(places) > 5 else "")
