"""Names a feed's assets, jobs and ops, for whoever makes them and for whoever looks them up in Dagster's records."""

RAW_TRADES = "raw_trades"
TRADES = "trades"
MAINTENANCE = "maintenance"


def ingest_job_name(feed: str) -> str:
    """Name the job that fills a feed's ``raw_trades``."""
    return f"{feed}_ingest"


def ingest_op_name(feed: str) -> str:
    """Name the op that makes a feed's ``raw_trades``, where its run config goes."""
    return f"{feed}__{RAW_TRADES}"


def build_job_name(feed: str) -> str:
    """Name the job that makes a feed's ``trades`` and all bars."""
    return f"{feed}_build"


def maintenance_job_name(feed: str) -> str:
    """Name the job that maintains a feed's tables."""
    return f"{feed}_maintenance"
