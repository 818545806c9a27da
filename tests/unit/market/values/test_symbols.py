import pyarrow as pa
import pytest
from avro_messages import DAYS
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_row_admission import TYPES

from k2_market.messages.row_admission import refusals
from k2_market.values.symbols import MAX_SYMBOL_CHARACTERS, symbol_fault

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
OTHER_SCRIPTS = [
    "\u00c9",
    "e\u0301",
    "\u0410\u0411",
    "币安人生_USDT",
    "トヨタ",
    "삼성전자",
    "ارامكو",
    "आरआईएल",
    "ΟΤΕ",
    "٣",
]
UNSEEN = ["\U0001f600", "\u202eABC", "A\u00a0B", "A\u200bB", "A\ufeffB", "\u0301A", "A\u2028B", "\ue000"]


@pytest.mark.parametrize("symbol", [*USUAL, *OTHER_SCRIPTS, "AAPL  261218C00200000", "A" * MAX_SYMBOL_CHARACTERS])
def test_the_codes_that_exchanges_use_are_symbols(symbol):
    assert symbol_fault(symbol) is None


@pytest.mark.parametrize("symbol", [*HARMFUL, *CONTROL, *UNSEEN, "BTC'; drop table t; --", " A", "A ", " "], ids=repr)
def test_what_could_do_harm_somewhere_is_not(symbol):
    assert symbol_fault(symbol) is not None


@pytest.mark.parametrize(
    ("symbol", "fault"),
    [
        ("A;B", "symbol has U+003B SEMICOLON as character 2, which is not allowed"),
        ("A\x1b[2J", "symbol has U+001B as character 2, which is not allowed"),
        ("\u202eABC", "symbol has U+202E RIGHT-TO-LEFT OVERRIDE as character 1, which is not allowed"),
        ("\U0001f600", "symbol has U+1F600 GRINNING FACE as character 1, which is not allowed"),
        ("=A", "symbol begins with U+003D EQUALS SIGN, expected a letter, a digit or one of ^ . # $ _"),
        ("A ", "symbol ends with U+0020 SPACE"),
    ],
)
def test_the_very_character_is_named_without_showing_it(symbol, fault):
    assert symbol_fault(symbol) == fault
    assert fault.isascii()


def test_faults_say_what_is_wrong_without_the_symbol():
    assert symbol_fault("") == "symbol is empty"
    assert symbol_fault("A" * 65) == "symbol of 65 characters, at most 64"
    assert symbol_fault("../../x") == "symbol holds '..'"
    assert symbol_fault("A..B") == "symbol holds '..'"


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8") | st.sampled_from("AZaz09 ._-/:+=^#@&$*!~"), min_size=1, max_size=70))
@example("A\n")
@example("A\r")
@example("币" * 64)
@example("币" * 65)
def test_a_message_is_admitted_under_just_the_symbols_that_a_file_may_have(symbol):
    columns = {name: pa.nulls(1, kind) for name, kind in TYPES.items()} | {"symbol": pa.array([symbol])}

    assert refusals(columns, DAYS) == ({} if symbol_fault(symbol) is None else {0: symbol_fault(symbol)})
