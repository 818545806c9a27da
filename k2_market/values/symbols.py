"""Decides which texts K2 accepts as an instrument's symbol.

Symbols come from outside and end up in SQL, pages, reports, spreadsheets, log lines and terminals. Whatever shows
them escapes or binds them; that is the first defence. This is the second: an allowlist, so that a text which could
do harm anywhere never gets as far. What it refuses is kept as a dead letter.

Allowed are letters, digits and combining marks of any script, the space, and ``. _ - / : + = ^ # @ & $ * ! ~``: the
codes that exchanges and vendors use, such as ``BHP``, ``BRK.B``, ``ES=F``, ``^GSPC``, ``ES1!``, ``XBT/USD:PERP``,
``AAPL  261218C00200000`` and ``币安人生USDT``. The first character is a letter, a digit or one of ``^ . # $ _`` and the
last one no space: ``=cmd()`` is a formula to a spreadsheet and ``/etc`` a path. ``..`` is refused everywhere. Symbols
stay as they are written: two spellings of one letter (composed or not) are two symbols.
"""

import re
from unicodedata import category, name

MAX_SYMBOL_CHARACTERS = 64

ASCII_SYMBOL_PATTERN = r"^[A-Za-z0-9^.#$_](?:[A-Za-z0-9 ._\-/:+=^#@&$*!~]*[A-Za-z0-9._\-/:+=^#@&$*!~])?$"
"""As both ``re`` (by ``fullmatch``) and RE2 (Arrow) read it: nearly all symbols. Length and ``..`` are looked at apart;
a text that does not match may still be a symbol of another script, which ``symbol_fault`` decides."""

_ASCII_SYMBOL = re.compile(ASCII_SYMBOL_PATTERN)
_PUNCTUATION = frozenset(" ._-/:+=^#@&$*!~")
_FIRST_PUNCTUATION = frozenset("^.#$_")


def symbol_fault(symbol: str) -> str | None:
    """Say why a text is not a symbol, in ASCII and without quoting it; None when it is one.

    Example:
        >>> symbol_fault("BHP") is None
        True
        >>> symbol_fault("../../etc/passwd")
        "symbol holds '..'"
        >>> symbol_fault("A;B")
        'symbol has U+003B SEMICOLON as character 2, which is not allowed'
    """
    if not symbol:
        return "symbol is empty"
    if len(symbol) > MAX_SYMBOL_CHARACTERS:
        return f"symbol of {len(symbol)} characters, at most {MAX_SYMBOL_CHARACTERS}"
    if ".." in symbol:
        return "symbol holds '..'"
    if _ASCII_SYMBOL.fullmatch(symbol):
        return None
    for place, character in enumerate(symbol, 1):
        if not (category(character)[0] in "LMN" or character in _PUNCTUATION):
            return f"symbol has {_named(character)} as character {place}, which is not allowed"
    if not (category(symbol[0])[0] in "LN" or symbol[0] in _FIRST_PUNCTUATION):
        return f"symbol begins with {_named(symbol[0])}, expected a letter, a digit or one of ^ . # $ _"
    if symbol[-1] == " ":
        return f"symbol ends with {_named(symbol[-1])}"
    return None


def _named(character: str) -> str:
    return f"U+{ord(character):04X} {name(character, '')}".rstrip()
