"""Names a feed's assets, jobs and ops, as they are made and as Dagster's records have them.

The names of trades are those that homes have in their records: they do not change.
"""

from k2_market.kinds.raw_kind import RawKind


def family_name(feed: str, kind: RawKind) -> str:
    """Name a feed's family of assets of a kind: what its jobs', sensors' and pools' names begin with."""
    return f"{feed}{kind.family_suffix}"


def ingest_job_name(feed: str, kind: RawKind) -> str:
    """Name the job that fills a feed's raw table of a kind."""
    return f"{family_name(feed, kind)}_ingest"


def ingest_op_name(feed: str, kind: RawKind) -> str:
    """Name the op that makes a feed's raw table of a kind, where its run config goes."""
    return f"{feed}__{kind.raw_table}"


def build_job_name(feed: str, kind: RawKind) -> str:
    """Name the job that makes the tables which are derived from a feed's raw one."""
    return f"{family_name(feed, kind)}_build"


def maintenance_job_name(feed: str, kind: RawKind) -> str:
    """Name the job that maintains a feed's tables of a kind."""
    return f"{family_name(feed, kind)}_maintenance"


def maintenance_asset_name(kind: RawKind) -> str:
    """Name the asset of a feed that stands for the maintenance of its tables of a kind."""
    return f"maintenance{kind.family_suffix}"
