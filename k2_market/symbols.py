"""Which texts K2 accepts as an instrument's symbol.

Symbols come from outside and end up in SQL, pages, reports, spreadsheets, log lines and terminals. Whatever shows
them escapes or binds them; that is the first defence. This is the second: an allowlist, so that a text which could
do harm anywhere never gets as far. What it refuses is kept as a dead letter.

Allowed are ASCII letters and digits, the space, and ``. _ - / : + = ^ # @ & $ * ! ~``: the codes that exchanges and
vendors use, such as ``BHP``, ``BRK.B``, ``M&M.NS``, ``ES=F``, ``^GSPC``, ``ES1!``, ``ABR$D``, ``XBT/USD:PERP`` and
``AAPL  261218C00200000``. The first character is a letter, a digit or one of ``^ . # $ _`` and the last one no space:
``=cmd()`` is a formula to a spreadsheet and ``/etc`` a path. ``..`` is refused everywhere.
"""

import re

MAX_SYMBOL_CHARACTERS = 64

SYMBOL_PATTERN = r"^[A-Za-z0-9^.#$_](?:[A-Za-z0-9 ._\-/:+=^#@&$*!~]*[A-Za-z0-9._\-/:+=^#@&$*!~])?$"
"""As both ``re`` (by ``fullmatch``) and RE2 (Arrow, DuckDB) read it; length and ``..`` are looked at apart."""

_SYMBOL = re.compile(SYMBOL_PATTERN)


def symbol_fault(symbol: str) -> str | None:
    """Why a text is not a symbol, without quoting it; None when it is one.

    Example:
        >>> symbol_fault("BHP") is None
        True
        >>> symbol_fault("../../etc/passwd")
        "symbol holds '..'"
    """
    if not symbol:
        return "symbol is empty"
    if len(symbol) > MAX_SYMBOL_CHARACTERS:
        return f"symbol of {len(symbol)} characters, at most {MAX_SYMBOL_CHARACTERS}"
    if ".." in symbol:
        return "symbol holds '..'"
    if not _SYMBOL.fullmatch(symbol):
        return "symbol has a character that is not allowed"
    return None
