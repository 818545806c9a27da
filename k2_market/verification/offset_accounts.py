"""Splits offset ranges that several sources report into intervals on which each source is constant.

A ledger, the rows of a table, a broker and the summaries of snapshots each give ranges of offsets. Laid over each
other and cut wherever one of them begins or ends, they become pieces, each with the number of times that every account
tells of it. What holds between the accounts is then a condition on a piece.

This is the arithmetic of verification: a sweep over edges, on its own, so that an error in ``offset_ranges`` can't hide
itself.
"""

from collections.abc import Iterable, Mapping

import polars as pl

RANGE_COLUMNS = {"topic_id": pl.String, "partition": pl.Int32, "start": pl.Int64, "end": pl.Int64}
"""A frame of ranges: offsets ``[start, end)`` of one partition of one topic a row."""

LOG = ("topic_id", "partition")
"""Columns that identify a log."""


def ranges(spans: Iterable[tuple[str, int, int, int]]) -> pl.DataFrame:
    """Return a frame of ranges out of ``(topic_id, partition, start, end)``."""
    return pl.DataFrame(list(spans), RANGE_COLUMNS, orient="row")


def ranges_of_offsets(offsets: pl.DataFrame) -> pl.DataFrame:
    """Return single offsets as ranges; an offset that is there n times lies in n of them.

    Args:
        offsets: ``topic_id``, ``partition``, ``offset``, in any order.
    """
    ordered = offsets.select(*LOG, "offset").sort(*LOG, "offset")
    if ordered.is_empty():
        return ranges([])
    copy = pl.int_range(pl.len()).over(*LOG, "offset").alias("copy")
    repeated = bool(ordered.select((pl.struct(*LOG, "offset") == pl.struct(*LOG, "offset").shift(1)).any()).item())
    counted = ordered.with_columns(copy).sort(*LOG, "copy", "offset") if repeated else ordered.with_columns(copy=0)
    run = pl.col("offset") - pl.int_range(pl.len())
    group = (*LOG, "copy")
    return (
        counted.with_columns(run.alias("run"))
        .group_by(*group, "run", maintain_order=True)
        .agg(pl.col("offset").min().alias("start"), (pl.col("offset").max() + 1).alias("end"))
        .select(pl.col(name).cast(kind) for name, kind in RANGE_COLUMNS.items())
    )


def pieces(accounts: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Return the pieces that some accounts cut the offsets into.

    Args:
        accounts: Each account's ranges, by a name of its own. They may overlap, within one account too.

    Returns:
        A frame of ranges, in order, that no edge of any account lies within, and that some account tells of; beside
        each, by an account's name, how many of its ranges lie over it.
    """
    edges = pl.concat(
        each.select(
            *LOG, pl.col(side).alias("start"), *(pl.lit(step if name == of else 0).alias(of) for of in accounts)
        )
        for name, each in accounts.items()
        for side, step in (("start", 1), ("end", -1))
    )
    steps = edges.group_by(*LOG, "start").agg(pl.col(*accounts).sum()).sort(*LOG, "start")
    return (
        steps.with_columns(
            pl.col("start").shift(-1).over(LOG).alias("end"),
            *(pl.col(name).cum_sum().over(LOG).alias(name) for name in accounts),
        )
        .filter(pl.any_horizontal(pl.col(*accounts) > 0))
        .select(*RANGE_COLUMNS, *accounts)
    )


def bridged(found: pl.DataFrame, gap: int) -> pl.DataFrame:
    """Join disjoint ranges that are at most ``gap`` offsets apart, with what lies between them.

    Example:
        >>> bridged(ranges([("t", 0, 0, 5), ("t", 0, 7, 9), ("t", 0, 20, 21)]), 2).rows()
        [('t', 0, 0, 9), ('t', 0, 20, 21)]
    """
    ordered = found.select(*RANGE_COLUMNS).sort(*LOG, "start")
    begins = (pl.col("start") > pl.col("end").shift(1).over(LOG) + gap).fill_null(True)
    return (
        ordered.with_columns(begins.cum_sum().alias("run"))
        .group_by(*LOG, "run", maintain_order=True)
        .agg(pl.col("start").min(), pl.col("end").max())
        .select(*RANGE_COLUMNS)
    )


def coalesced(found: pl.DataFrame) -> pl.DataFrame:
    """Return disjoint ranges, in order, with those that touch made one."""
    return bridged(found, 0)


def union(*found: pl.DataFrame) -> pl.DataFrame:
    """Return all offsets of some ranges, which may overlap, as disjoint ranges in order."""
    return coalesced(pieces({"any": pl.concat(each.select(*RANGE_COLUMNS) for each in found)}))


def difference(whole: pl.DataFrame, taken: pl.DataFrame) -> pl.DataFrame:
    """Return the offsets of ``whole`` that are not in ``taken``, as disjoint ranges in order."""
    return coalesced(pieces({"whole": whole, "taken": taken}).filter((pl.col("whole") > 0) & (pl.col("taken") == 0)))


def intersection(one: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """Return the offsets that are in both, as disjoint ranges in order."""
    return coalesced(pieces({"one": one, "other": other}).filter((pl.col("one") > 0) & (pl.col("other") > 0)))


def offsets_in(found: pl.DataFrame) -> int:
    """Tell how many offsets lie in some ranges; one that lies in two counts twice."""
    return int((found["end"] - found["start"]).sum())


def texts(found: pl.DataFrame) -> tuple[str, ...]:
    """Return ranges as K2 writes them everywhere: ``topic-id/partition[start,end)``."""
    return tuple(
        f"{topic}/{partition}[{start},{end})"
        for topic, partition, start, end in found.select(*RANGE_COLUMNS).iter_rows()
    )
