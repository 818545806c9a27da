"""Lists the kinds that K2 ingests."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from k2_market.feeds.feed import Feed
from k2_market.kinds.raw_kind import RawKind
from k2_market.kinds.trades import TRADES

KINDS = (TRADES,)
"""Every kind, in the order in which their tables are shown."""


def tables_of(kinds: Sequence[RawKind]) -> Mapping[str, pa.Schema]:
    """Map the names of all tables of some kinds to their columns."""
    return {name: columns for kind in kinds for name, columns in kind.tables.items()}


def kinds_of(feed: Feed, kinds: Sequence[RawKind]) -> list[RawKind]:
    """List those of some kinds that a feed has a topic for."""
    return [kind for kind in kinds if kind.topic_of(feed.topics) is not None]
