"""A warehouse in memory: the files that pyiceberg writes, and Arrow tables in place of Parquet where those would do."""

import io
import uuid
from collections.abc import Iterable
from datetime import date
from typing import Any

import pyarrow as pa
from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile, OutputStream
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.typedef import Record
from simulated_turns import Turns

_EPOCH = date(1970, 1, 1)


class SimulatedFiles(FileIO):
    """Files by location; each that is written or deleted is a step.

    Attributes:
        content: What each location holds: bytes, a table's metadata or rows.
        written: When each was written, in simulated seconds.
    """

    def __init__(self, turns: Turns) -> None:
        super().__init__({})
        self.turns = turns
        self.content: dict[str, Any] = {}
        self.written: dict[str, float] = {}

    def new_input(self, location: str) -> InputFile:
        return _Input(location, self)

    def new_output(self, location: str) -> OutputFile:
        return _Output(location, self)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        name = location if isinstance(location, str) else location.location
        self.turns.step("deletes a file")
        if self.content.pop(name, None) is None:
            raise FileNotFoundError(name)

    def write(self, location: str, content: Any) -> None:
        """Write a file in one step."""
        what = _kind(location)
        if what:
            self.turns.step(f"writes {what}")
        self.content[location] = content
        self.written[location] = self.turns.now

    def size(self, location: str) -> int:
        """Bytes of a file.

        Raises:
            FileNotFoundError: There is none.
        """
        content = self.content.get(location)
        if content is None:
            raise FileNotFoundError(location)
        if isinstance(content, pa.Table):
            return int(content.nbytes)
        return len(content) if isinstance(content, bytes) else 1


class _Input(InputFile):
    def __init__(self, location: str, files: SimulatedFiles) -> None:
        super().__init__(location)
        self._files = files

    def __len__(self) -> int:
        return self._files.size(self.location)

    def exists(self) -> bool:
        return self.location in self._files.content

    def open(self, seekable: bool = True) -> InputStream:
        if not self.exists():
            raise FileNotFoundError(self.location)
        return io.BytesIO(self._files.content[self.location])


class _Output(OutputFile):
    def __init__(self, location: str, files: SimulatedFiles) -> None:
        super().__init__(location)
        self._files = files

    def __len__(self) -> int:
        return self._files.size(self.location)

    def exists(self) -> bool:
        return self.location in self._files.content

    def to_input_file(self) -> InputFile:
        return _Input(self.location, self._files)

    def create(self, overwrite: bool = False) -> OutputStream:
        return _Stream(self.location, self._files)


class _Stream(io.BytesIO):
    """A file that is there once it is closed."""

    def __init__(self, location: str, files: SimulatedFiles) -> None:
        super().__init__()
        self._location = location
        self._files = files

    def close(self) -> None:
        if not self.closed:
            content = self.getvalue()
            super().close()
            self._files.write(self._location, content)


def write_arrow_files(metadata: TableMetadata, io: SimulatedFiles, rows: pa.Table) -> Iterable[DataFile]:
    """Stands in for ``day_files.write_day_files``: a file for each trading day, its rows kept as they are."""
    return arrow_data_files(metadata, rows, io, uuid.uuid4())


def read_arrow_files(table: Table, files: Iterable[DataFile], schema: pa.Schema) -> pa.Table:
    """Stands in for ``day_files.read_files`` likewise."""
    io: Any = table.io
    rows = [io.content[file.file_path].select(schema.names).cast(schema) for file in files]
    return pa.concat_tables([schema.empty_table(), *rows])


def arrow_data_files(
    table_metadata: TableMetadata, df: pa.Table, io: SimulatedFiles, write_uuid: object = None
) -> Iterable[DataFile]:
    """Stands in for pyiceberg's writing of Parquet likewise."""
    days = df["trade_date"].to_pylist()
    for number, day in enumerate(sorted(set(days))):
        rows = df.filter(pa.array([each == day for each in days]))
        location = f"{table_metadata.location}/data/exchange_date={day}/{number}-{write_uuid}.arrow"
        io.write(location, rows)
        file = DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=location,
            file_format=FileFormat.PARQUET,
            partition=Record((day - _EPOCH).days),
            record_count=rows.num_rows,
            file_size_in_bytes=rows.nbytes,
            column_sizes={},
            value_counts={},
            null_value_counts={},
            nan_value_counts={},
            lower_bounds={},
            upper_bounds={},
            split_offsets=[],
            equality_ids=None,
            sort_order_id=None,
            key_metadata=None,
        )
        file.spec_id = table_metadata.default_spec_id
        yield file


def _kind(location: str) -> str:
    """What a file is; nothing for those that follow right upon another one of their kind."""
    directory, _, name = location.rpartition("/")
    if "/data/" in directory:
        return "data files" if name.startswith(("0-", "00000-0-")) else ""
    return "the snapshot's files" if name.startswith("snap-") else ""
