from datetime import date, timedelta
from typing import Any

import pyarrow as pa
from avro_messages import DAYS, OPEN_US

from k2_market.messages.row_admission import awaited_day, refusals
from k2_market.messages.row_resolution import Faults

DAY_US = 86_400_000_000
TYPES = {
    "symbol": pa.string(),
    "exchange_timestamp": pa.int64(),
    "received_timestamp": pa.int64(),
    "trade_date": pa.int64(),
    "message_id": pa.string(),
    "trade_id": pa.string(),
    "exchange": pa.string(),
    "currency": pa.string(),
    "corrects_trade_id": pa.string(),
    "conditions": pa.list_(pa.string()),
}
USUAL = {
    "symbol": "BHP",
    "exchange_timestamp": OPEN_US,
    "received_timestamp": OPEN_US,
    "trade_date": (date(2014, 3, 11) - date(1970, 1, 1)).days,
    "message_id": "m",
    "trade_id": "t",
    "exchange": "ASX",
    "currency": "AUD",
    "corrects_trade_id": None,
    "conditions": [],
}


def refused(*rows: dict[str, Any]) -> Faults:
    usual = [{**USUAL, **row} for row in rows]
    return refusals({name: pa.array([row[name] for row in usual], kind) for name, kind in TYPES.items()}, DAYS)


def day(when: date) -> int:
    return (when - date(1970, 1, 1)).days


def test_a_row_whose_day_has_not_come_says_which_day_it_waits_for():
    (reason,) = refused({"trade_date": day(DAYS.last) + 1}).values()
    assert awaited_day(reason) == DAYS.last + timedelta(days=1)


def test_other_dead_letters_wait_for_no_day():
    (early,) = refused({"trade_date": day(DAYS.first) - 1}).values()
    (far,) = refused({"trade_date": day(date(2015, 3, 11))}).values()
    (beyond,) = refused({"trade_date": 10_000_000}).values()
    for reason in (early, far, beyond, "", "unknown schema id 7", f"{early}; and more"):
        assert awaited_day(reason) is None


def test_a_usual_row_is_let_in():
    assert refused({}, {}) == {}


def test_the_bounds_of_time_are_exclusive():
    last = 9_214_646_400_000_000 - 1
    days = {"trade_date": day(DAYS.last)}

    found = refused(
        {"received_timestamp": 1},
        {"received_timestamp": 0},
        {"received_timestamp": last},
        {"received_timestamp": last + 1},
        {"exchange_timestamp": 0, **days},
    )

    assert found == {
        1: "received_timestamp 0 outside 1970..2262",
        3: f"received_timestamp {last + 1} outside 1970..2262",
        4: "exchange_timestamp 0 outside 1970..2262",
    }


def test_first_and_last_day_are_let_in_and_their_neighbours_not():
    def at(when: date) -> dict[str, int]:
        return {"trade_date": day(when), "exchange_timestamp": day(when) * DAY_US + 1}

    found = refused(
        at(DAYS.first), at(DAYS.last), at(date(2014, 3, 9)), at(date(2026, 11, 25)), {"trade_date": 2**31 - 1}
    )

    assert found == {
        2: "trade_date 2014-03-09 outside 2014-03-10..2026-11-24",
        3: "trade_date 2026-11-25 outside 2014-03-10..2026-11-24",
        4: "trade_date day 2147483647 outside 2014-03-10..2026-11-24",
    }


def test_a_trade_date_thirteen_days_off_is_a_session_and_fourteen_a_mistake():
    usual = USUAL["exchange_timestamp"]
    assert isinstance(usual, int)

    found = refused(*({"exchange_timestamp": usual + days * DAY_US} for days in (-12, 14, -13, 15)))

    assert found == {
        2: "trade_date is 14 days after exchange_timestamp",
        3: "trade_date is 14 days before exchange_timestamp",
    }


def test_texts_are_counted_in_characters():
    found = refused(
        {"trade_id": "é" * 256},
        {"trade_id": "é" * 257},
        {"corrects_trade_id": "c" * 257},
        {"conditions": ["é" * 256, "x"]},
        {"conditions": ["x", "é" * 300, "é" * 257]},
    )

    assert found == {
        1: "trade_id of 257 characters, at most 256",
        2: "corrects_trade_id of 257 characters, at most 256",
        4: "a condition of 300 characters, at most 256",
    }


def test_the_first_rule_broken_is_the_reason():
    assert refused({"symbol": "", "trade_date": 0, "exchange_timestamp": 0}) == {0: "symbol is empty"}


def test_symbols_are_looked_at_wherever_they_stand():
    assert refused({"symbol": "A"}, {"symbol": "B'"}, {"symbol": "A"}, {"symbol": "B'"}) == {
        1: "symbol has U+0027 APOSTROPHE as character 2, which is not allowed",
        3: "symbol has U+0027 APOSTROPHE as character 2, which is not allowed",
    }


def test_nulls_are_somebody_elses_fault():
    columns = {name: pa.nulls(2, kind) for name, kind in TYPES.items()}

    refusals(columns, DAYS)


def test_no_rows_are_no_refusals():
    assert refused() == {}
