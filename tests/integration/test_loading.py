"""Loads on their whole way, from files over a real broker to bars: recorded, refused when repeated, taken back."""

import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner, Result

from k2_cli.main import app
from k2_market.feeds.feed import Feed, load_feeds
from k2_market.kinds.shipped import KINDS, tables_of
from k2_market.kinds.trades import TRADES
from k2_market.loads.loads import LoadKind, LoadState
from k2_platform.catch_up import catch_up_feed, local_instance
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.kafka.load_records import LoadRecords
from k2_resources.proofs.bars_proof import prove_bars
from k2_resources.query.views import open_query_connection
from k2_resources.settings import Settings

pytestmark = pytest.mark.slow

HEADER = "symbol,exchange_timestamp,price,quantity"
NAMED = f"{HEADER},trade_id"
NINE = [f"HR,2026-11-20T09:00:0{n}Z,{10 + n},{n + 1}" for n in range(2)]
TEN = [f"HR,2026-11-20T10:00:0{n}Z,{20 + n},{5 + 2 * n}" for n in range(2)]


class Desk:
    """A person with a feed of their own, who loads files and asks for bars."""

    def __init__(self, settings: Settings, directory: Path, more: str = "", calendar: str = "24/7") -> None:
        feeds = directory / "feeds"
        feeds.mkdir()
        self._settings = settings.model_copy(update={"feeds_dir": feeds})
        self._directory = directory
        topic = f"market.crypto.trades.kry-{uuid.uuid4().hex[:8]}"
        (feeds / "kry.toml").write_text(
            f'name = "kry"\nexchange = "KRY"\nasset_class = "crypto"\ntimezone = "UTC"\ncalendar = "{calendar}"\n'
            f'start_date = 2017-01-01\ncurrency = "quote"\n{more}\n[topics]\ntrades = "{topic}"\npartitions = 2\n'
        )
        self.feed: Feed = load_feeds([feeds])["kry"]

    def k2(self, command: str, *arguments: str, stdin: str | None = None) -> Result:
        environment = self._settings.environment_variables()
        return CliRunner().invoke(app, [command, "--feed", "kry", *arguments], env=environment, input=stdin)

    def file(self, name: str, *lines: str, header: str = HEADER) -> str:
        path = self._directory / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("\n".join([header, *lines, ""]), encoding="utf-8")
        return str(path)

    def load(self, name: str, *lines: str, header: str = HEADER) -> None:
        loaded = self.k2("load", self.file(name, *lines, header=header))
        assert loaded.exit_code == 0, loaded.output

    def catch_up(self) -> None:
        with local_instance(self._settings) as instance:
            catch_up_feed(self._settings, self.feed, TRADES, instance, lambda: datetime.now(UTC))

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        catalog = open_catalog(self._settings.iceberg_catalog_uri, self._settings.iceberg_warehouse)
        connection: duckdb.DuckDBPyConnection
        with open_query_connection(
            catalog, ["kry"], tables_of(KINDS), spill_directory=self._settings.home / "spill"
        ) as connection:
            return connection.execute(statement).fetchall()

    def daily(self) -> list[tuple[Any, ...]]:
        self.catch_up()
        return [
            (symbol, *(None if each is None else Decimal(each).normalize() for each in bar), count)
            for symbol, *bar, count in self.ask(
                "SELECT symbol, open, high, low, close, volume, trade_count FROM kry.ohlcv_1d "
                "ORDER BY trade_date, symbol"
            )
        ]

    def loads(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(self.k2("loads", "--json").stdout)
        return listed

    def proven(self) -> bool:
        catalog = open_catalog(self._settings.iceberg_catalog_uri, self._settings.iceberg_warehouse)
        return not prove_bars(catalog, self.feed, None, datetime.now(UTC)).violations


@pytest.fixture
def desk(stack_settings: Settings, tmp_path: Path) -> Desk:
    return Desk(stack_settings, tmp_path)


DeskOf = Callable[[str], Desk]


@pytest.fixture
def desk_of(stack_settings: Settings, tmp_path: Path) -> DeskOf:
    return lambda more: Desk(stack_settings, tmp_path, more)


def test_pieces_of_one_name_are_all_in_the_bars(desk: Desk) -> None:
    desk.load("09/trades.csv", *NINE)
    desk.load("10/trades.csv", *TEN)

    assert desk.daily() == [("HR", 10, 21, 10, 21, 15, 4)]
    assert desk.proven()


def test_a_load_is_recorded_with_all_that_identifies_it(desk: Desk) -> None:
    desk.load("a.csv", *NINE)

    (record,) = desk.loads()
    assert (record["kind"], record["state"], record["rows"]) == ("load", "complete", 2)
    assert (record["first"], record["last"]) == ("2026-11-20T09:00:00+00:00", "2026-11-20T09:00:01+00:00")
    assert sum(end - start for start, end in record["offsets"].values()) == 2
    (file,) = record["files"]
    assert (Path(file["name"]).name, len(file["sha256"]), file["rows"]) == ("a.csv", 64, 2)
    shown = desk.k2("loads").stdout
    assert "a.csv" in shown
    assert record["id"][:8] in shown


def test_the_same_content_is_refused_whatever_its_name_until_it_is_asked_for(desk: Desk) -> None:
    desk.load("a.csv", *NINE)
    copy = desk.file("copies/renamed.csv", *NINE)

    refused = desk.k2("load", copy)
    assert refused.exit_code == 1
    assert "renamed.csv: has the content of" in refused.stderr
    assert "a.csv, loaded at" in refused.stderr
    again = desk.k2("load", "--again", copy)

    assert again.exit_code == 0, again.output
    assert desk.daily() == [("HR", 10, 11, 10, 11, 3, 2)]  # ids of content: they count once
    assert [load["again"] for load in desk.loads()] == [False, True]


def test_the_same_rows_under_other_ids_are_refused(desk: Desk) -> None:
    desk.load("a.csv", *(f"{line},v{n}" for n, line in enumerate(NINE)), header=NAMED)

    refused = desk.k2("load", desk.file("b.csv", *(f"{line},w{n}" for n, line in enumerate(NINE)), header=NAMED))

    assert refused.exit_code == 1
    assert "its 2 rows of 2026-11-20 are those of" in refused.stderr
    assert "they would count twice" in refused.stderr
    assert desk.daily() == [("HR", 10, 11, 10, 11, 3, 2)]


def test_a_trade_in_two_exports_one_with_spaces_is_one(desk: Desk) -> None:
    desk.load("a.csv", "SPC,2026-11-22T10:00:00Z,10,1,y1", header=NAMED)

    loaded = desk.k2("load", desk.file("b.csv", "SPC, 2026-11-22T10:00:00Z, 10, 1, y1", header=NAMED))

    assert loaded.exit_code == 0
    assert "under the same ids: they count once" in loaded.stderr
    assert desk.daily() == [("SPC", 10, 10, 10, 10, 1, 1)]


def test_standard_input_is_a_file_like_another(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = desk.file("a.csv", *NINE)
    monkeypatch.setattr("k2_resources.files.source_files.STANDARD_INPUT", Path(path))

    assert desk.k2("load", "-").exit_code == 0
    refused = desk.k2("load", path)

    assert refused.exit_code == 1
    assert "has the content of" in refused.stderr


def test_a_load_is_taken_back_by_cancels_and_may_come_again(desk: Desk) -> None:
    desk.load("a.csv", *NINE)
    desk.load("b.csv", *TEN)
    assert desk.daily() == [("HR", 10, 21, 10, 21, 15, 4)]
    load_id = desk.loads()[1]["id"]

    taken_back = desk.k2("unload", load_id[:8])

    assert taken_back.exit_code == 0, taken_back.output
    assert "by 2 cancels" in taken_back.stdout
    assert desk.daily() == [("HR", 10, 11, 10, 11, 3, 2)]
    assert desk.ask("SELECT action, count(*) FROM kry.raw_trades GROUP BY 1 ORDER BY 1") == [("CANCEL", 2), ("NEW", 4)]
    assert desk.proven()
    assert [(each["kind"], each["state"]) for each in desk.loads()] == [
        ("load", "complete"),
        ("load", "unloaded"),
        ("unload", "complete"),
    ]
    assert "was taken back already" in desk.k2("unload", load_id).stderr

    desk.load("b-again.csv", *TEN)
    assert desk.daily() == [("HR", 10, 21, 10, 21, 15, 4)]
    assert desk.proven()


def test_what_another_load_brought_too_stays_when_a_load_is_taken_back(desk: Desk) -> None:
    named = [f"{line},v{n}" for n, line in enumerate([*NINE, *TEN])]
    desk.load("a.csv", *named[:3], header=NAMED)
    desk.load("b.csv", *named[2:], header=NAMED)
    assert desk.daily() == [("HR", 10, 21, 10, 21, 15, 4)]

    assert desk.k2("unload", desk.loads()[1]["id"]).exit_code == 0

    assert desk.daily() == [("HR", 10, 20, 10, 20, 8, 3)]
    refused = desk.k2("load", desk.file("c.csv", *named[3:], header=NAMED))
    assert refused.exit_code == 1
    assert "A cancel is final" in refused.stderr


def test_a_load_that_is_not_ingested_yet_is_not_taken_back(desk: Desk) -> None:
    desk.load("a.csv", *NINE)

    refused = desk.k2("unload", desk.loads()[0]["id"])

    assert refused.exit_code == 1
    assert "0 of its 2 messages are in the raw table yet" in refused.stderr


def test_a_load_with_amendments_of_trades_of_others_is_not_taken_back(desk: Desk) -> None:
    desk.load("a.csv", *(f"{line},v{n}" for n, line in enumerate(NINE)), header=NAMED)
    desk.load("b.csv", "HR,2026-11-20T09:00:00Z,10,1,v0,CANCEL", header=f"{NAMED},action")
    desk.catch_up()

    refused = desk.k2("unload", desk.loads()[1]["id"])

    assert refused.exit_code == 1
    assert "cancels or corrections of trades that it did not bring" in refused.stderr


def test_a_load_whose_process_ended_may_be_loaded_again(desk: Desk, stack_settings: Settings) -> None:
    desk.load("a.csv", *NINE)
    records = LoadRecords(stack_settings.bootstrap_servers, desk.feed)
    (load,) = records.read()
    records.write(replace(load, state=LoadState.BEGUN))

    desk.load("a.csv", *NINE)

    assert [each.state for each in records.read()] == [LoadState.BEGUN, LoadState.COMPLETE]
    assert desk.daily() == [("HR", 10, 11, 10, 11, 3, 2)]


def test_a_person_corrects_and_cancels_a_trade(desk: Desk) -> None:
    desk.load("a.csv", *(f"{line},v{n}" for n, line in enumerate([*NINE, *TEN])), header=NAMED)
    desk.catch_up()

    corrected = desk.k2("correct", "--symbol", "HR", "--trade-id", " v1 ", "--price", "11.5", "--quantity", "20")
    assert corrected.exit_code == 0, corrected.output
    assert "2026-11-20, is 11.5 x 20 from now on; it was 11 x 2" in corrected.stdout
    assert desk.daily() == [("HR", 10, 21, 10, 21, 33, 4)]

    once_more = desk.k2("correct", "--symbol", "HR", "--trade-id", "v1", "--quantity", "3")
    assert "is 11.5 x 3 from now on; it was 11.5 x 20" in once_more.stdout
    assert desk.daily() == [("HR", 10, 21, 10, 21, 16, 4)]

    cancelled = desk.k2("cancel", "--symbol", "HR", "--trade-id", "v3")
    assert cancelled.exit_code == 0, cancelled.output
    assert desk.daily() == [("HR", 10, 20, 10, 20, 9, 3)]
    assert desk.proven()
    assert "was cancelled" in desk.k2("correct", "--symbol", "HR", "--trade-id", "v3", "--price", "1").stderr
    sent_by = "SELECT attributes['sent_by'] FROM kry.raw_trades WHERE action <> 'NEW' ORDER BY received_timestamp"
    assert [str(row[0]).strip("[]'") for row in desk.ask(sent_by)] == ["k2 correct", "k2 correct", "k2 cancel"]
    assert {each["kind"] for each in desk.loads()} == {LoadKind.LOAD.value, LoadKind.AMENDMENT.value}


def test_what_a_person_can_not_ask_of_a_trade_is_said(desk: Desk) -> None:
    desk.load("a.csv", f"{NINE[0]},v0", header=NAMED)
    desk.catch_up()

    def refusal(command: str, trade_id: str, *arguments: str) -> str:
        refused = desk.k2(command, "--symbol", "HR", "--trade-id", trade_id, *arguments)
        assert refused.exit_code == 1
        return refused.stderr

    assert "is not among the raw rows of kry. Is it ingested" in refusal("correct", "nix", "--price", "1")
    assert "--price: found 'x'; expected a decimal number" in refusal("correct", "v0", "--price", "x")
    assert "has price 10 and quantity 1 already" in refusal("correct", "v0", "--price", "10")
    assert "expected a price above zero" in refusal("correct", "v0", "--price", "-1")
    assert "expected zero or more" in refusal("correct", "v0", "--quantity", "-1")
    assert "10 behind it" in refusal("correct", "v0", "--price", "0.12345678901")
    assert "on 2026-11-19; it is there on 2026-11-20" in refusal("cancel", "v0", "--date", "2026-11-19")
    assert len(desk.loads()) == 1


def test_an_id_of_several_days_is_named_with_its_day(desk: Desk) -> None:
    lines = [f"HR,2026-11-{day}T09:00:00Z,10,1,one" for day in (19, 20)]
    desk.load("a.csv", *lines, header=NAMED)
    desk.catch_up()

    assert "say which by --date" in desk.k2("cancel", "--symbol", "HR", "--trade-id", "one").stderr
    assert desk.k2("cancel", "--symbol", "HR", "--trade-id", "one", "--date", "2026-11-20").exit_code == 0
    assert desk.daily() == [("HR", 10, 10, 10, 10, 1, 1)]


def test_prices_below_zero_are_in_the_bars_of_a_feed_that_has_them(desk_of: DeskOf) -> None:
    prices = ["1.00", "-0.01", "-37.63", "-40.32", "-13.10"]
    lines = [f"CLK0,2020-04-20T18:0{n}:00Z,{price},{n + 1},w{n}" for n, price in enumerate(prices)]
    desk = desk_of('price = { may_be = "any" }')

    desk.load("wti.csv", *lines, header=NAMED)

    assert desk.daily() == [("CLK0", 1, 1, Decimal("-40.32"), Decimal("-13.1"), 15, 5)]
    assert desk.ask("SELECT vwap FROM kry.ohlcv_1d") == [(Decimal("-22.5793333333"),)]
    assert desk.proven()


def test_venues_ids_stand_apart_in_the_bars_of_a_feed_that_says_so(desk_of: DeskOf) -> None:
    tape = [("222.39", 27, 1, "XNYS"), ("222.41", 50, 1, "XNAS"), ("222.40", 10, 2, "XNYS")]
    lines = [f"TDOC,2026-11-21T14:30:0{n}Z,{p},{q},{i},{venue}" for n, (p, q, i, venue) in enumerate(tape)]
    desk = desk_of('ids = { unique_within = "venue" }')

    desk.load("tape.csv", *lines, header=f"{NAMED},exchange")

    assert desk.daily() == [("TDOC", *map(Decimal, ("222.39", "222.41", "222.39", "222.4")), 87, 3)]
    assert desk.proven()
    several = desk.k2("cancel", "--symbol", "TDOC", "--trade-id", "1")
    assert "is there at XNAS, XNYS; say which by --exchange" in several.stderr
    assert desk.k2("cancel", "--symbol", "TDOC", "--trade-id", "1", "--exchange", "XNAS").exit_code == 0
    assert desk.daily()[0][5:] == (37, 2)
    assert desk.proven()


def test_condition_codes_with_commas_keep_a_trade_out_of_the_high(desk_of: DeskOf) -> None:
    desk = desk_of('conditions = { no_price = ["37"], no_volume = ["15"] }')
    desk.load(
        "trades.csv",
        "A,2026-11-20T15:00:00Z,150.10,100,1,12",
        'A,2026-11-20T15:00:10Z,199.00,5,2,"12,37"',
        "A,2026-11-20T15:00:20Z,150.20,200,3,12",
        header=f"{NAMED},conditions",
    )

    assert desk.daily() == [("A", *map(Decimal, ("150.1", "150.2", "150.1", "150.2")), 305, 3)]
    assert desk.ask("SELECT priced_count FROM kry.ohlcv_1d") == [(2,)]


def test_a_symbol_in_chinese_has_bars_under_the_name_that_the_exchange_writes(desk: Desk) -> None:
    desk.load("chinese.csv", '"币安人生_USDT",2026-11-21T11:00:00Z,10,1,x0', header=NAMED)

    assert desk.daily() == [("币安人生_USDT", 10, 10, 10, 10, 1, 1)]
