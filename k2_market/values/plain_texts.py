"""Normalises texts of messages and files: white space trimmed, condition codes split.

The same trade in two exports must have one id, whatever stands around it; and a code that is not seen as a code keeps
no trade out of the bars.
"""

import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

WHITE_SPACE = (
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
)
"""Characters stripped from ids and symbols: Unicode's White_Space, and three invisible ones: the zero width space, the
word joiner and the byte order mark."""

SEPARATORS = ",;|/\\:+&\uff0c\u3001\uff1b\uff5c"
"""Separators of condition codes, beside white space; the last four are commas and the like of CJK texts."""

STRIPPED = ("trade_id", "symbol", "exchange", "currency", "corrects_trade_id")
"""The texts of a message that are compared with those of others."""

SPLIT_PATTERN = f"[{re.escape(WHITE_SPACE + SEPARATORS)}]+"
_SPLIT = re.compile(SPLIT_PATTERN)
_NO_CODE = re.compile(r"[\[\](){}<>\"'`\x00-\x1f\x7f]")
_JOINED_NUMBERS = re.compile(r"\d([-_.~])\d")


def split_codes(text: str) -> list[str]:
    """Split a text into the condition codes that it holds.

    Example:
        >>> split_codes("12, 37")
        ['12', '37']
    """
    return [code for code in _SPLIT.split(text) if code]


def code_fault(code: str) -> str | None:
    """Say why a text is not one condition code; None when it may be one.

    Example:
        >>> code_fault("12-37")
        "condition '12-37': '-' between numbers; are they several codes?"
    """
    wrong = _NO_CODE.search(code)
    if wrong:
        return f"condition {_shown(code)} has U+{ord(wrong[0]):04X}, which is in no code"
    joined = _JOINED_NUMBERS.search(code)
    if joined:
        return f"condition {_shown(code)}: {joined[1]!r} between numbers; are they several codes?"
    return None


def stripped(texts: pa.Array) -> pa.Array:
    """Take the white space off both ends of texts; gives the array itself where there is none, which costs little."""
    return pc.utf8_trim(texts, characters=WHITE_SPACE) if _ends_doubtful(texts) else texts


def single_codes(conditions: pa.Array) -> pa.Array:
    """Give lists of condition codes in which each item is one code; the array itself where that is so already."""
    texts = conditions.flatten().unique().drop_null().to_pylist()
    codes = {text: split_codes(text) for text in texts}
    if all(found == [text] for text, found in codes.items()):
        return conditions
    return pa.array([_all_codes(each, codes) for each in conditions.to_pylist()], conditions.type)


def code_faults(conditions: pa.Array) -> dict[str, str]:
    """Find the texts among lists of condition codes that are no codes, each with the reason."""
    texts = conditions.flatten().unique().drop_null().to_pylist()
    return {text: fault for text in texts if (fault := code_fault(text)) is not None}


def _all_codes(items: Iterable[str | None] | None, codes: dict[str, list[str]]) -> list[str] | None:
    return None if items is None else [code for item in items if item is not None for code in codes[item]]


def _ends_doubtful(texts: pa.Array) -> bool:
    """Tell whether any text may have white space at an end: its first or last byte is none of visible ASCII's."""
    if not len(texts):
        return False
    offsets = np.frombuffer(texts.buffers()[1], np.int32, count=len(texts) + 1, offset=texts.offset * 4)
    filled = offsets[1:] > offsets[:-1]
    if texts.buffers()[2] is None or not filled.any():
        return False
    data = np.frombuffer(texts.buffers()[2], np.uint8)
    starts, ends = offsets[:-1][filled], offsets[1:][filled] - 1
    return bool(_doubtful(data[starts]).any() or _doubtful(data[ends]).any())


def _doubtful(found: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    doubtful: npt.NDArray[np.bool_] = (found <= 0x20) | (found >= 0x7F)
    return doubtful


def _shown(code: str, longest: int = 40) -> str:
    text = ascii(code)
    return text if len(text) <= longest else f"{text[:longest]}…"
