"""Joins offset ranges that lie close together, since reading a short gap is cheaper than seeking over it."""

from k2_market.ledger.offset_ranges import RangeSet, Span

SHORT_GAP = 50_000
"""Offsets that are read in less time than a consumer needs to start; a reader starts one a round of islands."""


def bridged(ranges: RangeSet, short_gap: int = SHORT_GAP) -> RangeSet:
    """Return the ranges, with those joined that lie no further apart than ``short_gap`` offsets.

    Begins and ends where the ranges do, so where all of them can be read, what is between them can be too, if a
    partition's log is retained without a break.
    """
    return RangeSet({key: _joined(spans, short_gap) for key, spans in ranges.spans.items()})


def _joined(spans: tuple[Span, ...], short_gap: int) -> tuple[Span, ...]:
    joined: list[Span] = []
    for start, end in spans:
        if joined and start - joined[-1][1] <= short_gap:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return tuple(joined)
