from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from repository import SHIPPED_FEEDS

from k2_market.errors import SourceFileError
from k2_market.feeds.feed import load_feeds
from k2_market.sources.hitbtc import read_trades

HITBTC = load_feeds([SHIPPED_FEEDS])["hitbtc"]
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HEADER = "symbol,trade_id,timestamp,side,price,quantity"


def test_a_trade_of_the_exchange_is_read_with_its_own_id_and_side():
    content = f"{HEADER}\nEURSUSD,1315508926,2021-07-11T23:59:59.838Z,buy,1.18405,0.1\n".encode()

    read_rows = read_trades(content, "trades.csv", HITBTC, NOW)

    (row,) = read_rows.rows.to_dicts()
    assert (row["symbol"], row["trade_id"], row["side"]) == ("EURSUSD", "1315508926", "BUY")
    assert (row["price"], row["quantity"]) == (Decimal("1.18405"), Decimal("0.1"))
    assert (row["exchange_timestamp_us"], row["trade_date"]) == (1626047999838000, date(2021, 7, 11))
    assert not read_rows.ids_from_rows


def test_another_side_than_buy_and_sell_is_refused():
    content = f"{HEADER}\nEURSUSD,1,2021-07-11T23:59:59.838Z,short,1,1\n".encode()

    with pytest.raises(SourceFileError, match=r"trades.csv, row 2: column 'side': found 'short'"):
        read_trades(content, "trades.csv", HITBTC, NOW)


def test_the_real_file_is_read_to_the_last_row(market_data):
    path = market_data / "hitbtc-2021" / "trades.csv"

    rows = read_trades(path.read_bytes(), str(path), HITBTC, NOW).rows

    assert rows.height == 1_000
    assert rows["symbol"].n_unique() == 10
    assert rows["trade_id"].n_unique() == 1_000
    written = [line.split(",")[4] for line in path.read_text().splitlines()[1:]]
    assert rows["price"].to_list() == [Decimal(text) for text in written]
