"""Defines the config of ingest runs: ranges to read, offsets to record as lost, how to treat failing messages."""

import dagster as dg

from k2_market.plans.failed_runs import Handling
from k2_market.plans.ingest_claims import IngestClaims


class IngestConfig(dg.Config):
    """Tells what a run reads. Without a topic id it takes what its day's part of the topic holds and the ledger lacks.

    ``handling`` says what it does with the messages (``failed_runs.Handling``). A ``careful`` run reads no more than it
    needs.
    """

    topic_id: str = ""
    ranges: dict[str, list[list[int]]] = {}  # noqa: RUF012  # a Dagster config is pydantic, which copies defaults
    lost: dict[str, list[list[int]]] = {}  # noqa: RUF012
    truncated: dict[str, list[list[int]]] = {}  # noqa: RUF012
    dead_letters_of: list[str] = []  # noqa: RUF012
    """Days whose dead letters are decoded again, in place of reading messages."""
    handling: str = Handling.DECODE.value
    careful: bool = False


def claims_of(config: IngestConfig) -> IngestClaims:
    """Read the claims of a run's config about its topic.

    Raises:
        WrongClaim: The configuration names no offsets where it should, or no handling that there is.
    """
    return IngestClaims.parse(config.topic_id, config.ranges, config.lost, config.truncated, config.handling)
