"""The checker is proven: each error that is planted by hand in a good home turns it red, and ``k2 verify`` too.

Both must name the exact place. The home is filled once; before each test its tables are put back as they were.
"""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from catching_up import catch_up, reaches_no_lag
from checker import assert_nothing_lost_or_doubled
from fault_tally import FaultTally
from own_feeds import OwnFeed, own_feed
from pyiceberg.table import Table
from recorded_producer import Acked
from trade_batches import DAY, split
from typer.testing import CliRunner

from k2_cli.main import app
from k2_market.messages.outgoing import OutgoingMessages
from k2_market.schemas.tables import RAW_TRADES
from k2_resources.iceberg.catalog import open_catalog

pytestmark = pytest.mark.slow

TRADES = 2_000
FIRST = 1_200


@dataclass
class GoodHome:
    """A feed whose day is ingested and built, and how to put its tables back.

    Attributes:
        own: The feed and its home.
        acked: What the broker acknowledged.
        kept: Where copies of its tables are.
    """

    own: OwnFeed
    acked: list[Acked]
    kept: Path
    catalog_file: Path = field(init=False)
    warehouse: Path = field(init=False)

    def __post_init__(self) -> None:
        self.catalog_file = self.own.settings.home / "catalog.db"
        self.warehouse = self.own.settings.home / "warehouse"

    def keep(self) -> None:
        shutil.copytree(self.warehouse, self.kept / "warehouse")
        shutil.copy2(self.catalog_file, self.kept / "catalog.db")

    def put_back(self) -> None:
        shutil.rmtree(self.warehouse)
        shutil.copytree(self.kept / "warehouse", self.warehouse)
        shutil.copy2(self.kept / "catalog.db", self.catalog_file)

    def table(self, name: str = "raw_trades") -> Table:
        settings = self.own.settings
        catalog = open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)
        return catalog.load_table((self.own.feed.name, name))

    def row(self, number: int = 0) -> dict[str, Any]:
        """A decoded row; neighbours in a partition have neighbouring numbers."""
        rows = self.table().scan(row_filter="reject_reason is null").to_arrow().cast(RAW_TRADES)
        ordered = rows.sort_by([("kafka_partition", "ascending"), ("kafka_offset", "ascending")])
        return dict(ordered.slice(number, 1).to_pylist()[0])

    def check(self, tally: FaultTally) -> None:
        assert_nothing_lost_or_doubled(self.own.settings, self.own.feed.name, self.acked, tally, days=[DAY])

    def verify(self, *arguments: str) -> tuple[int, str]:
        """Exit code and output of ``k2 verify``."""
        command = ["verify", *arguments, "--feed", self.own.feed.name]
        result = CliRunner().invoke(app, command, env=self.own.settings.environment_variables())
        return result.exit_code, result.stdout


@pytest.fixture(scope="module")
def good_home(tmp_path_factory: pytest.TempPathFactory, kafka, registry) -> GoodHome:
    own = own_feed(tmp_path_factory.mktemp("good"), kafka.bootstrap_servers, registry.url)
    messages = own.trades(TRADES)
    damaged = OutgoingMessages(messages.keys, [*messages.values[:-2], b"", b"\x00no schema"], messages.timestamps_ms)
    producer = own.producer()
    for part in split(damaged, FIRST):
        producer.send(part)
        producer.flush()
        reaches_no_lag(own)
    assert catch_up(own).failed == 0
    home = GoodHome(own, producer.acked, tmp_path_factory.mktemp("kept"))
    home.keep()
    return home


@pytest.fixture
def home(good_home: GoodHome) -> Iterator[GoodHome]:
    yield good_home
    good_home.put_back()


def place(row: dict[str, Any]) -> str:
    return f"{row['kafka_topic_id']}/{row['kafka_partition']}[{row['kafka_offset']},{row['kafka_offset'] + 1})"


def is_row(row: dict[str, Any]) -> str:
    return f"kafka_partition = {row['kafka_partition']} and kafka_offset = {row['kafka_offset']}"


def turns_the_checker_red(home: GoodHome, naming: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(naming)):
        home.check(FaultTally(0))


def turns_verify_red(home: GoodHome, invariants: set[str], naming: str) -> str:
    exit_code, text = home.verify("ledger", "--json")
    found = json.loads(text)
    assert exit_code == 1
    assert not found["holds"]
    assert invariants <= {each["invariant"] for each in found["violations"]}
    assert any(naming in where for each in found["violations"] for where in each["where"])
    exit_code, text = home.verify("ledger")
    assert exit_code == 1
    assert naming in text
    return text


def test_a_home_in_which_nothing_is_wrong_is_green(home: GoodHome, tally: FaultTally) -> None:
    home.check(tally)
    for arguments in (
        ["ledger"],
        ["ledger", "--date", str(DAY)],
        ["ledger", "--offline"],
        ["bars", "--date", str(DAY)],
    ):
        exit_code, text = home.verify(*arguments)
        assert exit_code == 0, text
        assert "All that was looked at holds." in text


def test_a_lost_row_is_found_z1(home: GoodHome, tally: FaultTally) -> None:
    tally.injected("Z1")
    row = home.row(17)
    home.table().delete(is_row(row))
    turns_the_checker_red(home, place(row))
    turns_verify_red(home, {"I1", "I4"}, place(row))
    assert place(row) in home.verify("ledger", "--date", str(DAY))[1]
    assert place(row) in home.verify("ledger", "--offline")[1]


def test_a_doubled_row_is_found_z2(home: GoodHome, tally: FaultTally) -> None:
    tally.injected("Z2")
    row = home.row(17)
    home.table().append(pa.Table.from_pylist([row], RAW_TRADES))
    turns_the_checker_red(home, place(row))
    turns_verify_red(home, {"I2", "I4"}, place(row))


def test_a_swapped_pair_is_found_z3(home: GoodHome, tally: FaultTally) -> None:
    tally.injected("Z3")
    one, other = home.row(17), home.row(18)
    origin = ("kafka_topic_id", "kafka_partition", "kafka_offset")
    swapped = [{**one, **{key: other[key] for key in origin}}, {**other, **{key: one[key] for key in origin}}]
    home.table().delete(f"({is_row(one)}) or ({is_row(other)})")
    home.table().append(pa.Table.from_pylist(swapped, RAW_TRADES))
    at = f"/{one['kafka_partition']}@{one['kafka_offset']}: message_id is"
    turns_the_checker_red(home, at)
    text = turns_verify_red(home, {"I5"}, at)
    assert f"/{other['kafka_partition']}@{other['kafka_offset']}: message_id is" in text


def test_a_ledger_set_back_by_hand_is_found_z4(home: GoodHome, tally: FaultTally) -> None:
    tally.injected("Z4")
    table = home.table()
    ledger = json.loads(table.properties["k2.ledger"])
    ((topic_id, topic),) = ledger["topics"].items()
    partition, spans = next(iter(topic["partitions"].items()))
    end = spans[-1][1]
    spans[-1][1] = end - 10
    ledger["messages"] -= 10
    with table.transaction() as transaction:
        transaction.set_properties({"k2.ledger": json.dumps(ledger)})
    gone = f"{topic_id}/{partition}[{end - 10},{end})"
    turns_the_checker_red(home, gone)
    turns_verify_red(home, {"I3", "I4"}, gone)


def test_a_table_rolled_back_is_found_with_the_ranges_that_went(home: GoodHome, tally: FaultTally) -> None:
    tally.injected("C10")
    table = home.table()
    newest, before = table.history()[-1], table.history()[-2]
    ranges = table.snapshot_by_id(newest.snapshot_id).summary["k2.ranges"].split()  # type: ignore[union-attr,index]
    table.manage_snapshots().rollback_to_snapshot(before.snapshot_id).commit()
    turns_the_checker_red(home, ranges[0])
    turns_verify_red(home, {"I1", "I3", "I4"}, ranges[-1])


def test_a_deleted_data_file_is_found_z5(home: GoodHome, tally: FaultTally) -> None:
    tally.injected("Z5")
    file = next(iter(home.table().scan().plan_files())).file.file_path
    Path(file.removeprefix("file://")).unlink()
    turns_the_checker_red(home, "messages lost")
    turns_verify_red(home, {"I1", "I4", "I6"}, f"data file of {DAY} {file} is not there")


def test_a_damaged_data_file_is_found(home: GoodHome, tally: FaultTally) -> None:
    tally.injected("O5")
    file = Path(next(iter(home.table().scan().plan_files())).file.file_path.removeprefix("file://"))
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[4:middle] = bytes(middle - 4)
    file.write_bytes(content)
    turns_verify_red(home, {"I6"}, f"{file} can't be read")


def test_a_wrong_bar_is_found_z6(home: GoodHome, tally: FaultTally) -> None:
    tally.injected("Z6")
    table = home.table("ohlcv_5m")
    bars = table.scan().to_arrow()
    position = pc.index(pc.is_valid(bars["close"]), True).as_py()
    bar = bars.slice(position, 1).to_pylist()[0]
    wrong = {**bar, "close": bar["close"] + Decimal("0.01")}
    rest = [row for number, row in enumerate(bars.to_pylist()) if number != position]
    table.overwrite(pa.Table.from_pylist([*rest, wrong], bars.schema), "trade_date = '2026-11-20'")
    turns_the_checker_red(home, f"{bar['symbol']} {bar['bar_start'].isoformat()}: close is")
    exit_code, text = home.verify("bars", "--date", str(DAY))
    assert exit_code == 1
    assert f"{bar['symbol']} {bar['bar_start'].isoformat()}: close is {wrong['close']}" in text


def test_a_dead_letter_with_other_bytes_is_found(home: GoodHome, tally: FaultTally) -> None:
    tally.injected("M1")
    dead = home.table().scan(row_filter="reject_reason is not null").to_arrow().cast(RAW_TRADES).to_pylist()[0]
    home.table().delete(is_row(dead))
    home.table().append(pa.Table.from_pylist([{**dead, "payload": b"other"}], RAW_TRADES))
    at = f"/{dead['kafka_partition']}@{dead['kafka_offset']}: payload is b'other'"
    turns_the_checker_red(home, at)
    turns_verify_red(home, {"I5"}, at)
