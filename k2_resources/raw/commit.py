"""Commits to a raw table, and resolves an unknown outcome: landed, refused, or still unknown.

pyiceberg tells a refusal apart (``CommitFailedException``); anything else that goes wrong may have landed. What
settles it is the batch id that every commit to a raw table writes into its snapshot.
"""

from collections.abc import Callable
from typing import TypeVar

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table, Transaction
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
    wait_random_exponential,
)

from k2_market.errors import K2Error
from k2_resources.iceberg.table_errors import CatalogUnavailable
from k2_resources.logs.structured_logging import get_logger
from k2_resources.raw.view import batch_ids

ATTEMPTS = 10
_ASKING_SECONDS = 60.0
"""Time for which a catalog that gave no answer to a commit is asked whether it landed."""

_T = TypeVar("_T")
_log = get_logger("iceberg")


class CommitOutcomeUnknown(K2Error):
    """A commit was sent and its outcome is unknown; nothing was written again."""


class Conflict(K2Error):
    """Another writer committed first; the table has to be loaded again."""


def retry_on_conflict(attempt: Callable[[], _T]) -> _T:
    """Tell what an attempt returns once no other writer commits before it; each attempt loads the table anew.

    Raises:
        Conflict: Others came first ``ATTEMPTS`` times.
    """
    retrying = Retrying(
        retry=retry_if_exception_type(Conflict),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.05, max=2),
        reraise=True,
    )
    return retrying(attempt)


def until_committed(attempt: Callable[[], _T], if_not: str) -> _T:
    """Tell what an attempt returns once no other writer commits before it; for commits that may be made twice.

    Args:
        attempt: Loads the table anew each time, and commits at most once.
        if_not: What holds should others come first each time, for the message.

    Raises:
        CatalogUnavailable: Others came first ``ATTEMPTS`` times.
    """
    retrying = Retrying(
        retry=retry_if_exception_type(CommitFailedException),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.05, max=2),
        reraise=True,
    )
    try:
        return retrying(attempt)
    except CommitFailedException as conflict:
        raise CatalogUnavailable(f"{if_not}: other writers committed first each time: {conflict}") from conflict


def commit_once(
    transaction: Transaction, catalog: Catalog, identifier: str, batch_id: str, if_not_landed: str
) -> Table:
    """Commit a transaction, once; the table after it.

    Args:
        transaction: Its snapshots carry the batch id.
        catalog: Asked whether the commit landed, should its answer not come.
        identifier: The table's name, as ``asx.ohlcv_1d``.
        batch_id: Names the commit.
        if_not_landed: What holds should it not have landed, for messages.

    Raises:
        Conflict: Another writer committed first; nothing was written.
        K2Error: It was not sent at all: a file of it is gone, or the table is another home's.
        CommitOutcomeUnknown: The catalog gave no answer, and does not show the batch.
    """
    try:
        return transaction.commit_transaction()
    except CommitFailedException as conflict:
        raise Conflict(f"{identifier}: another writer committed first: {conflict}") from conflict
    except K2Error:
        raise
    except Exception as unknown:
        # Anything but a refusal may have landed. The batch id in the table's history settles it.
        table = _asked_again(catalog, identifier, batch_id, unknown, if_not_landed)
        if batch_id in batch_ids(table):
            _log.warning("commit landed without an answer", table=identifier, batch_id=batch_id)
            return table
        raise CommitOutcomeUnknown(
            f"{identifier}: batch {batch_id}: the catalog answered {unknown!r} and does not show the batch; "
            f"{if_not_landed}"
        ) from unknown


def _asked_again(catalog: Catalog, identifier: str, batch_id: str, unknown: Exception, if_not_landed: str) -> Table:
    """Return the table after a commit that got no answer, once the catalog answers again."""
    patient = Retrying(stop=stop_after_delay(_ASKING_SECONDS), wait=wait_exponential(0.1, max=5), reraise=True)
    try:
        return patient(catalog.load_table, identifier)
    except Exception as silent:
        raise CommitOutcomeUnknown(
            f"{identifier}: batch {batch_id}: the catalog answered {unknown!r}, and {silent!r} for "
            f"{_ASKING_SECONDS:.0f} s since. If the batch landed, the table's history names it; if not, {if_not_landed}"
        ) from unknown
