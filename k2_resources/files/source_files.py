"""Finds and opens files of trades on this machine; ``k2_market.sources`` reads their content."""

import glob
import gzip
import zlib
from collections.abc import Iterable
from pathlib import Path

from k2_market.errors import SourceFileError

SUFFIXES = (".csv", ".csv.gz")
"""Suffixes of the files taken from a directory; a file that is named itself is taken whatever its name."""

STANDARD_INPUT = Path("/dev/stdin")
"""Path that ``-`` stands for."""

_GZIP_MAGIC = b"\x1f\x8b"


def find_source_files(names: Iterable[str]) -> list[Path]:
    """Return the files that some names stand for, in that order, each once.

    Args:
        names: Files, directories (their CSV files, sorted by name) and patterns (``trades/*.csv.gz``); ``-`` is
            standard input.

    Raises:
        SourceFileError: A name stands for nothing.
    """
    found: dict[Path, Path] = {}
    for name in names:
        path = STANDARD_INPUT if name == "-" else Path(name).expanduser()
        if path.is_dir():
            files = sorted(each for each in path.iterdir() if each.name.endswith(SUFFIXES))
            if not files:
                held = sorted(each.name for each in path.iterdir())
                holds = f"but {', '.join(map(ascii, held[:3]))}".replace("'", "") if held else "and nothing else"
                raise SourceFileError(f"{name}: holds no file that ends in {' or '.join(SUFFIXES)}, {holds}")
        else:
            files = [path] if path.exists() else [Path(each) for each in sorted(glob.glob(str(path), recursive=True))]
        if not files:
            raise SourceFileError(f"{name}: found nothing, expected a file, a directory or a pattern that fits some")
        for each in files:
            found.setdefault(each.resolve(), each)
    return list(found.values())


def read_source_file(path: Path) -> bytes:
    """Return a file's content, decompressed if it is gzip, whatever its name.

    Raises:
        SourceFileError: It can't be opened, or its compression is broken.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(_GZIP_MAGIC) else content
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceFileError(f"{path}: the gzip data is cut off or damaged ({error}); fetch the file again") from error
    except OSError as error:
        raise SourceFileError(f"{path}: can't be read: {error.strerror or error}") from error
