"""Verifies the claims of an ingest run's config at the broker and in Dagster's records, before the run begins (#049).

Offsets are looked up at the broker and in the ledger, and that messages are to be set aside in the records of the runs
that failed of them.
"""

from collections.abc import Callable, Sequence

from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.plans.failed_runs import FailedRun, Handling
from k2_market.plans.ingest_claims import ClaimFacts, IngestClaims, admitted
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topic_reader import TopicReader
from k2_resources.logs.structured_logging import get_logger
from k2_resources.raw.ledger_against_log import LedgerAgainstLog
from k2_resources.raw.table import RawTable

_log = get_logger("ingest")


def verified_claims(
    claims: IngestClaims,
    reader: TopicReader,
    registry: SchemaRegistry,
    table: RawTable,
    calendar: TradingCalendar,
    failed: Callable[[], Sequence[FailedRun]],
) -> IngestClaims:
    """Tell what of a run's claims is so, and may be read and recorded.

    Args:
        claims: What the run was told.
        reader: Reads the topic.
        registry: Knows the schemas of its messages.
        table: The raw table.
        calendar: The feed's.
        failed: Asks for the feed's failed ingest runs; called only where messages are to be set aside.

    Raises:
        WrongClaim: Something of them is not so.
        OffsetsGone: The topic is another one by now.
        KafkaUnavailable: No broker answered.
        LedgerError: The ledger can't be trusted.
    """
    view = table.view()  # before the topic: a run that commits in between must not make the ledger look ahead of it
    topic = reader.state(claims.topic_id)
    compared = LedgerAgainstLog(reader, registry, calendar, table.kind.messages).compare(
        claims.reached(topic, view.ledger), view
    )
    failures = () if claims.handling is Handling.DECODE else tuple(failed())
    found = admitted(claims, ClaimFacts(topic, view.ledger, compared, failures))
    if found.truncated != claims.truncated:
        _log.warning(
            "less was cut off than the run was told",
            table=table.identifier,
            told=[str(each) for each in claims.truncated],
            found=[str(each) for each in found.truncated],
        )
    return found
