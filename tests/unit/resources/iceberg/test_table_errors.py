"""What catalogs, stores and their services raise comes out in K2's words, whichever kind they are."""

import pytest
import requests
from pyiceberg.exceptions import (
    ForbiddenError,
    OAuthError,
    RESTError,
    ServerError,
    ServiceUnavailableError,
    UnauthorizedError,
    WaitingForLockException,
)
from sqlalchemy.exc import OperationalError

from k2_market.errors import K2Error
from k2_resources.iceberg.table_errors import CatalogUnavailable, WarehouseUnavailable, translate_errors


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OperationalError("SELECT", {}, Exception("database is locked")), CatalogUnavailable),
        *[
            (each("no"), CatalogUnavailable)
            for each in (RESTError, ServerError, ServiceUnavailableError, UnauthorizedError, ForbiddenError, OAuthError)
        ],
        (WaitingForLockException("no"), CatalogUnavailable),
        (requests.ConnectionError("no"), CatalogUnavailable),
        (requests.Timeout("no"), CatalogUnavailable),
        (FileNotFoundError("s3://lake/asx/data/1.parquet"), WarehouseUnavailable),
        (PermissionError("AWS Error ACCESS_DENIED during GetObject operation"), WarehouseUnavailable),
        (OSError("When reading information for key: AWS Error NETWORK_CONNECTION"), WarehouseUnavailable),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else "",
)
def test_whatever_a_store_raises_names_the_table_and_is_an_error_of_k2(error: Exception, kind: type[K2Error]) -> None:
    with pytest.raises(kind, match=r"reading asx\.trades") as told, translate_errors("asx.trades", "reading"):
        raise error
    assert told.value.__cause__ is error


def test_an_error_of_our_own_stays_as_it_is() -> None:
    with pytest.raises(K2Error, match=r"^ours$"), translate_errors("asx.trades", "reading"):
        raise K2Error("ours")
