"""An Iceberg catalog in memory, with the SQL catalog's compare-and-swap, its failures, and pyiceberg's own staging."""

import uuid
from collections.abc import Callable
from typing import Any

from pyiceberg.catalog import Catalog, MetastoreCatalog
from pyiceberg.catalog.noop import NoopCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.table import CommitTableResponse, StagedTable, Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import TableRequirement, TableUpdate
from pyiceberg.typedef import EMPTY_DICT, Identifier, Properties
from simulated_files import SimulatedFiles
from simulated_turns import Turns
from simulated_weather import Weather
from sqlalchemy.exc import IntegrityError, OperationalError

from k2_resources.iceberg import owned_catalog

SWAP = "compares and swaps"
ANSWER = "takes the answer"


class SimulatedCatalog(MetastoreCatalog, NoopCatalog):
    """Tables by name: where each one's metadata is.

    A writer loads the table, stages its metadata and swaps the pointer, each in a step of its own; between them another
    writer can commit, and the writer, the catalog or the answer can be lost. As K2's own catalog it refuses a commit to
    a table that has changed since its writer loaded it.

    Attributes:
        committed: The metadata of every commit to the table that landed, in order; of the table as it is since when.
        changes: How often a table changed.
        in_flight: Commits whose writer has been told that they failed, and which may still land.
    """

    def __init__(self, turns: Turns, weather: Weather) -> None:
        super().__init__("simulated", warehouse="memory://warehouse")
        self.turns = turns
        self.weather = weather
        self.files = SimulatedFiles(turns)
        self.committed: list[TableMetadata] = []
        self.in_flight: list[Callable[[], bool]] = []
        self.changes = 0
        self.down_until = 0.0
        self._locations: dict[str, str] = {}
        self._namespaces: set[str] = set()

    def load_table(self, identifier: str | Identifier) -> Table:
        self.turns.step("loads the table")
        self._answer_or_not()
        return self._table(_name(identifier))

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        name = _name(table.name())
        self.turns.step("loads the table to commit")
        self._answer_or_not()
        current = self._table(name) if name in self._locations else None
        if current is not None and not isinstance(table, StagedTable):
            owned_catalog.require_unchanged(name, table.metadata_location, current.metadata_location)
        staged = self._update_and_stage_table(current, table.name(), requirements, updates)
        self.files.content[staged.metadata_location] = staged.metadata
        base = None if current is None else current.metadata_location
        self.turns.step(SWAP)
        self._answer_or_not()
        if self.weather.brings("error before the commit"):
            raise _unanswered("connection lost before the commit")
        if current is not None and self.weather.brings("commit landed late"):
            self.in_flight.append(lambda: self._land(name, base, staged))
            raise _unanswered("no answer in time")
        if not self._land(name, base, staged):
            if base is None:
                raise TableAlreadyExistsError(name)
            raise CommitFailedException(f"Table has been updated by another process: {name}")
        self.turns.step(ANSWER)
        if self.weather.brings("commit landed, answer lost"):
            raise _unanswered("connection lost after the commit")
        return CommitTableResponse.model_construct(metadata=staged.metadata, metadata_location=staged.metadata_location)

    def create_namespace(self, namespace: str | Identifier, properties: Properties = EMPTY_DICT) -> None:
        name = _name(namespace)
        self.turns.step("looks for the namespace")
        self._answer_or_not()
        if name in self._namespaces:
            raise NamespaceAlreadyExistsError(name)
        self.turns.step("creates the namespace")
        if name in self._namespaces:
            raise IntegrityError("INSERT", {}, Exception(f"UNIQUE constraint failed: {name}"))
        self._namespaces.add(name)

    def load_namespace_properties(self, namespace: str | Identifier) -> Properties:
        return {}

    def list_namespaces(self, namespace: str | Identifier = ()) -> list[Identifier]:
        return [(name,) for name in sorted(self._namespaces)]

    def list_tables(self, namespace: str | Identifier) -> list[Identifier]:
        return [tuple(name.split(".")) for name in self._locations if name.startswith(f"{_name(namespace)}.")]

    def adopt(self, identifier: str, metadata: TableMetadata) -> None:
        """Have a table that was created before all this."""
        self._namespaces.add(identifier.partition(".")[0])
        location = f"{metadata.location}/metadata/00000-{uuid.uuid4()}.metadata.json"
        self.files.content[location] = metadata
        self._locations[identifier] = location
        self.committed.append(metadata)

    def drop_table(self, identifier: str | Identifier) -> None:
        self._locations.pop(_name(identifier), None)
        self.committed.clear()
        self.changes += 1

    def land_one(self) -> None:
        """Let a commit arrive that its writer has given up."""
        landed = self.in_flight.pop(0)()
        self.turns.tell("catalog", f"a late commit arrives and {'lands' if landed else 'is refused'}")

    def table(self, identifier: str) -> Table | None:
        """A table as it is, without a step; for those who look at what came of it all."""
        return self._table(identifier) if identifier in self._locations else None

    def _land(self, name: str, base: str | None, staged: StagedTable) -> bool:
        if self._locations.get(name) != base:
            return False
        self._locations[name] = staged.metadata_location
        self.committed.append(staged.metadata)
        self.changes += 1
        return True

    def _table(self, name: str) -> Table:
        if name not in self._locations:
            raise NoSuchTableError(name)
        location = self._locations[name]
        return Table(tuple(name.split(".")), self.files.content[location], location, self.files, self)

    def _load_file_io(self, properties: Properties = EMPTY_DICT, location: str | None = None) -> Any:
        return self.files

    def _answer_or_not(self) -> None:
        if self.turns.now < self.down_until:
            raise _unanswered("the catalog is down")


def _name(identifier: str | Identifier) -> str:
    return identifier if isinstance(identifier, str) else Catalog.namespace_to_string(identifier)


def _unanswered(reason: str) -> OperationalError:
    return OperationalError("UPDATE iceberg_tables", {}, Exception(reason))
