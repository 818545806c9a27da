"""Names the formats of trade files that K2 reads, one module each."""

from enum import StrEnum


class SourceFormat(StrEnum):
    """A shape of file."""

    CSV = "csv"
    """K2's own: a header names the columns."""
    ASX_TICKDATA = "asx-tickdata"
    """Tick Data's ASX trades."""
    HITBTC = "hitbtc"
    """HitBTC's trades."""
