import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from k2_market.symbols import MAX_SYMBOL_CHARACTERS, SYMBOL_PATTERN, symbol_fault

USUAL = [
    "BHP",
    "A",
    "7203",
    "BRK.B",
    "M&M.NS",
    "ES=F",
    "^GSPC",
    ".INX",
    "ES1!",
    "ABR$D",
    "#T",
    "BTC-USD",
    "XBT/USD:PERP",
    "BTC_USDT",
    "CON",
]
HARMFUL = [
    "A'B",
    'A"B',
    "A`B",
    "A\\B",
    "A<b>",
    "A{B}",
    "A|B",
    "[A](x)",
    "A%B",
    "A?B",
    "A;B",
    "A,B",
    "=cmd()",
    "=A",
    "+A",
    "-A",
    "@A",
    "/etc/passwd",
    "~root",
    "*",
]
CONTROL = ["A\x00B", "A\nB", "A\n", "\rA", "A\tB", "A\x1b[2JB", "A\x7f"]
BEYOND_ASCII = ["\u00c9", "e\u0301", "\u0410", "\U0001f600", "\u202eABC", "A\u00a0B"]


@pytest.mark.parametrize("symbol", [*USUAL, "AAPL  261218C00200000", "A" * MAX_SYMBOL_CHARACTERS])
def test_the_codes_that_exchanges_use_are_symbols(symbol):
    assert symbol_fault(symbol) is None


@pytest.mark.parametrize(
    "symbol", [*HARMFUL, *CONTROL, *BEYOND_ASCII, "BTC'; drop table t; --", " A", "A ", " "], ids=repr
)
def test_what_could_do_harm_somewhere_is_not(symbol):
    assert symbol_fault(symbol) == "symbol has a character that is not allowed"


def test_faults_say_what_is_wrong_without_the_symbol():
    assert symbol_fault("") == "symbol is empty"
    assert symbol_fault("A" * 65) == "symbol of 65 characters, at most 64"
    assert symbol_fault("../../x") == "symbol holds '..'"
    assert symbol_fault("A..B") == "symbol holds '..'"


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8") | st.sampled_from("AZaz09 ._-/:+=^#@&$*!~"), min_size=1, max_size=64))
@example("A\n")
@example("A\r")
def test_arrow_reads_the_pattern_as_python_does(symbol):
    matches = pc.match_substring_regex(pa.array([symbol]), SYMBOL_PATTERN)[0].as_py()

    assert (matches and ".." not in symbol) == (symbol_fault(symbol) is None)
