"""Declares a kind of raw table: its topic, messages, tables and rules, which code for all kinds takes as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from k2_market.quality.ledger_checks import LEDGER_CHECKS

# Commands that only read must not wait for what these import.
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pyarrow as pa

    from k2_market.feeds.feed import Feed, Topics
    from k2_market.frames.day_batches import DayBatches
    from k2_market.quality.finding import Finding
    from k2_market.schemas.message_kinds import MessageKind


@dataclass(frozen=True)
class RawRule:
    """Names a rule over a day's raw rows. Its findings are warnings about the feed and block nothing.

    Attributes:
        check: The check's name.
        states: What holds where it passes, in a sentence.
        judge: Applies it to a feed's rows of one trading day.
    """

    check: str
    states: str
    judge: Callable[[Feed, DayBatches], Finding]


@dataclass(frozen=True, eq=False)
class RawKind:
    """Describes a kind of messages that K2 ingests, from its topic to the tables that are made of it.

    Attributes:
        name: What its messages are, in lower-case letters, as in a sentence.
        topic_of: Gives the topic that a feed has for them; None where it has none, and so no tables of the kind.
        messages: Their Avro schema, and the raw table's columns.
        raw_table: The raw table's name within a feed's namespace.
        derived: The tables that are made of the raw table, with their columns, in the order in which they are made.
        rules: The rules over its raw rows, beside those of the ledger (``LEDGER_CHECKS``).
        family_suffix: What its jobs, sensors and pools have after the feed's name (``k2_assets.names``); no two kinds
            of a feed have the same.
    """

    name: str
    topic_of: Callable[[Topics], str | None]
    messages: MessageKind
    raw_table: str
    derived: Mapping[str, pa.Schema]
    rules: tuple[RawRule, ...]
    family_suffix: str

    @property
    def tables(self) -> dict[str, pa.Schema]:
        """Map the names of all its tables, the raw one first, to their columns."""
        return {self.raw_table: self.messages.rows, **self.derived}

    @property
    def checks(self) -> dict[str, str]:
        """Map the names of the raw table's checks to what each states."""
        return LEDGER_CHECKS | {rule.check: rule.states for rule in self.rules}

    @property
    def cleaned_table(self) -> str | None:
        """Name the table that is made first of the raw one: a day that it has is published. None where none is made."""
        return next(iter(self.derived), None)

    @property
    def last_table(self) -> str | None:
        """Name the table that a build makes last: a day that is in it is in all others. None where none is made."""
        return next(reversed(list(self.derived)), None)

    def topic(self, feed: Feed) -> str:
        """Name a feed's topic of this kind.

        Raises:
            ValueError: The feed has none; nothing of the kind is made for such a feed.
        """
        topic = self.topic_of(feed.topics)
        if topic is None:
            raise ValueError(f"feed {feed.name} has no topic for {self.name}")
        return topic
