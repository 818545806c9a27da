"""Decides which tables a catalog may write to: those that lie in its warehouse and bear no other catalog's mark (#053).

Two catalogs that name the same files destroy each other's: each expires, compacts and deletes what the other still
needs. A copied home is the usual case, since a catalog holds absolute paths.
"""

import json
from dataclasses import dataclass

MARK = "k2.owner"
"""The table property that names a table's owner."""


@dataclass(frozen=True)
class Owner:
    """A catalog and the warehouse that it keeps its tables in.

    Attributes:
        catalog: What tells the catalog's database from every other, as ``sqlite:/data/k2/catalog.db``; no password.
        warehouse: The location under which its tables lie, as its settings name it.
    """

    catalog: str
    warehouse: str

    @property
    def mark(self) -> str:
        """The value of the property ``k2.owner`` of its tables."""
        return json.dumps({"catalog": self.catalog, "warehouse": self.warehouse})

    @classmethod
    def of_mark(cls, mark: str) -> "Owner | None":
        """Read an owner from a table's mark; None where the mark can't be read."""
        try:
            content = json.loads(mark)
            return cls(str(content["catalog"]), str(content["warehouse"]))
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class TablePlace:
    """Describes where a table lies, as far as its owner depends on it.

    Attributes:
        name: The table, as ``asx.ohlcv_1d``.
        places: Its location and whatever else it is told to write to, each as one and the same text for one place.
        mark: Its property ``k2.owner``; None where it has none, as a table of an earlier version.
    """

    name: str
    places: tuple[str, ...]
    mark: str | None


def why_not(table: TablePlace, owner: Owner, warehouse: str) -> str | None:
    """Say why a catalog may not write to a table; None if it may.

    Args:
        table: The table.
        owner: The catalog that is about to write.
        warehouse: Its warehouse, in the form that the table's places have.
    """
    outside = [each for each in table.places if not lies_within(each, warehouse)]
    marked = None if table.mark is None else Owner.of_mark(table.mark)
    if table.mark is not None and marked is None:
        return f"{table.name} is another home's table: its property {MARK} can't be read: {table.mark[:200]!r}"
    other = None if marked is None or marked.catalog == owner.catalog else marked
    whose = "" if other is None else f"belongs to the catalog {other.catalog}"
    if outside:
        where = f"lies at {outside[0]}, outside of this home's warehouse {owner.warehouse}"
        return f"{table.name} is another home's table: it {' and '.join(filter(None, (where, whose)))}"
    return f"{table.name} is another home's table: it {whose}, and this is {owner.catalog}" if whose else None


def refusal(reason: str) -> str:
    """Word the refusal of a write."""
    return (
        f"{reason}. Nothing was written: two catalogs that write the same files destroy each other's. If this home was "
        "moved or copied to live here, `k2 relocate` makes the tables its own; a copy of a home that is in use is made "
        "with `k2 backup` and `k2 restore`"
    )


def notice(reason: str) -> str:
    """Word the warning of a read."""
    return (
        f"{reason}. What is read here is that home's; nothing can be written from here. If this home was moved or "
        "copied to live here, `k2 relocate` makes the tables its own"
    )


def lies_within(place: str, directory: str) -> bool:
    """Tell whether a place is a directory or lies in it; both in the same form."""
    return f"{place.rstrip('/')}/".startswith(f"{directory.rstrip('/')}/")
