"""Checks before a commit that its data files exist and have the size that was written."""

from collections.abc import Iterable

from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.utils.concurrent import ExecutorFactory

from k2_market.errors import K2Error


class FilesGone(K2Error):
    """Files that were to be committed are not there any more, or not as they were written; nothing was committed."""


def require_whole(table: str, io: FileIO, files: Iterable[DataFile]) -> None:
    """Check that data files exist and have the size that was written, without reading any.

    Args:
        table: Whose files they are, as ``asx.trades``.
        io: Where they lie.
        files: As their writer knows them.

    Raises:
        FilesGone: Some are not there, or have another size.
        OSError: They can't be looked up.
    """
    faults = ExecutorFactory.get_or_create().map(lambda file: _fault(io, file), files)
    wrong = [each for each in faults if each is not None]
    if wrong:
        more = f"; and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise FilesGone(
            f"{table}: a file that was to be committed {wrong[0]}{more}. Nothing was committed: what was in it is "
            "still pending, and is read or built again by the next run. Did this process stand still for a day or "
            "more, so that `k2 clean-orphans` took its files for abandoned ones, or were files deleted by hand?"
        )


def _fault(io: FileIO, file: DataFile) -> str | None:
    try:
        size = len(io.new_input(file.file_path))
    except FileNotFoundError:
        return f"is not there: {file.file_path}"
    if size != file.file_size_in_bytes:
        return f"has {size:,} bytes in place of the {file.file_size_in_bytes:,} that were written: {file.file_path}"
    return None
