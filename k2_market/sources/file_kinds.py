"""Recognises files that are not delimited UTF-8 text, such as zip, Parquet or Excel, by their first bytes.

Archives, compressed and columnar files, other encodings and other separators are known by their first bytes.
"""

from collections.abc import Sequence

_SIGNATURES: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"PK\x03\x04", "a zip archive (or a workbook of a spreadsheet)", "unpack it, or export it as CSV"),
    (0, b"PK\x05\x06", "an empty zip archive", "fetch it again"),
    (0, b"PK\x07\x08", "a zip archive in several parts", "join and unpack it"),
    (0, b"\x1f\x8b", "gzip data within gzip data", "unpack it once"),
    (0, b"\x1f\x9d", "a file compressed by compress (.Z)", "unpack it (uncompress)"),
    (0, b"BZh", "a bzip2 file", "unpack it (bunzip2)"),
    (0, b"\xfd7zXZ\x00", "an xz file", "unpack it (unxz)"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file", "unpack it (unzstd)"),
    (0, b"\x04\x22\x4d\x18", "an lz4 file", "unpack it (unlz4)"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it"),
    (0, b"Rar!\x1a\x07", "a RAR archive", "unpack it"),
    (257, b"ustar", "a tar archive", "unpack it (tar -xf)"),
    (0, b"PAR1", "a Parquet file", "export it as CSV"),
    (0, b"ARROW1", "an Arrow file (Feather)", "export it as CSV"),
    (0, b"ORC", "an ORC file", "export it as CSV"),
    (0, b"Obj\x01", "an Avro file", "export it as CSV"),
    (0, b"\x89HDF", "an HDF5 file", "export it as CSV"),
    (0, b"SQLite format 3\x00", "an SQLite database", "export it as CSV"),
    (0, b"\xd0\xcf\x11\xe0", "a workbook of an old Excel", "export it as CSV"),
    (0, b"%PDF", "a PDF", "export it as CSV"),
    (0, b"DBN", "a Databento (DBN) file", "export it as CSV"),
)
_ENCODINGS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_SEPARATORS = {"\t": "tabs", ";": "semicolons", "|": "pipes (|)", "^": "carets (^)", ":": "colons", " ": "spaces"}
_LOOKED_AT = 4_096


def foreign_kind(content: bytes) -> str | None:
    """Say which kind of file some bytes are, and what to do with it; None where they may be delimited UTF-8 text.

    Example:
        >>> foreign_kind(b"PAR1...")
        'a Parquet file: export it as CSV'
    """
    start = content[:_LOOKED_AT]
    for at, signature, kind, remedy in _SIGNATURES:
        if start[at : at + len(signature)] == signature and not _is_header(start):
            return f"{kind}: {remedy}"
    encoding = next((name for mark, name in _ENCODINGS if start.startswith(mark)), None) or _wide_encoding(start)
    if encoding is not None:
        return f"{encoding} text: save it as UTF-8"
    if b"\x00" in start:
        return "binary data (it has NUL bytes): export it as CSV"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith((b"{", b"[")):
        return "JSON: export it as CSV"
    if text.startswith(b"<"):
        return (
            "XML or a web page (an error of the server that it was fetched from?): fetch it again, or export it as CSV"
        )
    return None


def other_separator(line: Sequence[str], names: Sequence[str]) -> str | None:
    """Say in words which separator a row has in place of commas; None where it has commas, or nothing that is known.

    Args:
        line: The row's texts, as commas divide them.
        names: Columns that it should name (a header), or as many texts as it should have.
    """
    whole = ",".join(line)
    for separator, words in _SEPARATORS.items():
        parts = [part.strip().strip('"') for part in whole.split(separator)]
        if len(parts) > len(line) and (len(set(parts) & set(names)) > 1 or len(parts) == len(names) > 1):
            return words
    return None


def _is_header(start: bytes) -> bool:
    """Tell whether text begins with letters that happen to be a signature, as a header ``ORCID,…`` does."""
    first_line = start.split(b"\n", 1)[0]
    return b"," in first_line and first_line.strip().isascii() and first_line.strip().decode("ascii").isprintable()


def _wide_encoding(start: bytes) -> str | None:
    """Tell text of two bytes a character that has no mark: every other byte of plain letters is zero."""
    pairs = len(start) // 2
    if pairs < 4:
        return None
    even, odd = start[0 : pairs * 2 : 2].count(0), start[1 : pairs * 2 : 2].count(0)
    return "UTF-16" if max(even, odd) > 0.8 * pairs and min(even, odd) < 0.2 * pairs else None
