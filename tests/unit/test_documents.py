"""The documents: what they name exists, what they promise is held, and they are as their readers expect them."""

import ast
import re
from datetime import date, datetime, time
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from repository import REPOSITORY

from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.trades import TRADES

ROOT = REPOSITORY
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CODE = [
    path
    for folder in ("k2_market", "k2_resources", "k2_assets", "k2_sensors", "k2_platform", "k2_cli", "tests", "deploy")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".toml", ".yaml", ".sql", ".sh", ".properties"}
]
FIRST_OWN_DECISION = 12

# The acceptance list's ids: the seed decision's number and how many lines it has, then those that stand alone.
SEED_LINES = {1: 8, 2: 6, 3: 5, 4: 6, 5: 6, 6: 6, 7: 6, 8: 5, 9: 5, 10: 4, 11: 6}
SEED_IDS = [
    *(f"{decision:03}.{line}" for decision, lines in SEED_LINES.items() for line in range(1, lines + 1)),
    *(f"PD-{number:03}" for number in range(1, 5)),
    "PR.1",
]

FIELDS = ("Date", "Status", "Deciders", "Related Steps")
SECTIONS = (
    "Context",
    "Decision",
    "Consequences",
    "Alternatives Considered",
    "Implementation Notes",
    "Verification",
)

_TEST = re.compile(r"(tests/[\w/]+\.py)(?:::(\w+))?")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_CODE_PATH = re.compile(
    r"`((?:k2_market|k2_resources|k2_assets|k2_sensors|k2_platform|k2_cli|benchmarks|deploy|docs|\.ci)/[\w./-]*|docker-compose\.yml)`"
)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def verification() -> dict[str, str]:
    """What holds each line of the seed, by id."""
    text = (ROOT / "docs" / "decisions" / "verification.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {identifier: held_by for identifier, _, held_by in rows[2:]}


@cache
def functions_in(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return frozenset(each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("path", DECISIONS, ids=name_of)
def test_every_decision_has_the_headings_of_the_template(path: Path):
    text = path.read_text(encoding="utf-8")

    assert re.match(rf"# Decision #{path.name[:3]}: \S", text)
    assert re.findall(r"^\*\*(\w[\w ]+)\*\*: \S", text, re.MULTILINE) == list(FIELDS)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == list(SECTIONS)
    assert re.findall(r"^\*\*(\w+)\*\*:$", text, re.MULTILINE) == ["Positive", "Negative", "Neutral"]
    assert re.search(r"^\*\*Status\*\*: (Proposed|Accepted|Deprecated|Superseded by #\d{3})", text, re.MULTILINE)
    assert re.search(r"^- \[[ x]\] ", text.split("## Verification")[1], re.MULTILINE)


def test_every_decision_stands_in_the_index():
    index = (ROOT / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")

    linked = re.findall(r"^\| #(\d{3}) \| \[[^\]]+\]\(([^)]+)\)", index, re.MULTILINE)
    assert linked == [(path.name[:3], path.name) for path in DECISIONS]
    assert [int(number) for number, _ in linked] == list(range(FIRST_OWN_DECISION, FIRST_OWN_DECISION + len(linked)))


def test_every_decision_that_is_cited_exists():
    known = {f"#{number:03}" for number in range(1, FIRST_OWN_DECISION)} | {f"#{path.name[:3]}" for path in DECISIONS}

    cited = {
        (number, name_of(path))
        for path in [*CODE, *DOCUMENTS]
        if path != Path(__file__)
        for number in re.findall(r"(?<![\w&])#\d{3}\b", path.read_text(encoding="utf-8"))
    }
    assert {each for each in cited if each[0] not in known} == set()


def test_every_line_of_the_seed_is_held_by_something_or_owed():
    assert list(verification()) == SEED_IDS
    for identifier, held_by in verification().items():
        assert re.search(r"tests/|`(time )?make |owed|\]\(0", held_by), identifier


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_test_that_is_named_exists(path: Path):
    for file, function in _TEST.findall(path.read_text(encoding="utf-8")):
        assert (ROOT / file).is_file(), file
        assert not function or function in functions_in(file), f"{file}::{function}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_file_that_is_named_or_linked_exists(path: Path):
    text = path.read_text(encoding="utf-8")

    links = [link for link in _LINK.findall(text) if not re.match(r"[a-z]+:|#", link)]
    assert [link for link in links if not (path.parent / link.split("#")[0]).exists()] == []
    assert [named for named in _CODE_PATH.findall(text) if not (ROOT / named).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_make_target_that_is_named_exists(path: Path):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))

    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", path.read_text(encoding="utf-8"), re.MULTILINE)) <= targets


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_command_of_k2_that_is_named_exists(path: Path):
    from k2_cli.main import COMMANDS

    named = re.findall(r"(?:`|^|\$ )(?:\.venv/bin/)?k2 ([a-z][a-z-]*)", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(named) <= set(COMMANDS)


KNOWN_HOSTS = {"127.0.0.1", "duckdb.org", "keepachangelog.com", "semver.org", "www.apache.org"}
"""Hosts that documents may link to; a package registry is never one of them."""


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_no_document_names_a_place_that_its_reader_has_not(path: Path):
    text = path.read_text(encoding="utf-8")

    assert re.findall(r"/(?:work|home|tmp)/", text) == []
    assert set(re.findall(r"https?://([A-Za-z0-9.-]+)", text)) <= KNOWN_HOSTS


def test_the_operating_manual_knows_every_setting():
    from k2_resources.settings import Settings

    manual = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    described = re.findall(r"^\| `K2_(\w+)` \| (.+?) \|", manual, re.MULTILINE)
    assert sorted(name.lower() for name, _ in described) == sorted(Settings.model_fields)
    for name, default in described:
        field = Settings.model_fields[name.lower()].default
        if isinstance(field, int):
            assert default == f"{field}", name


def test_the_operating_manual_says_what_to_do_for_every_check():
    from k2_assets.checks import CURRENT_RULES, TRADE_CHECKS, bar_checks_of
    from k2_market.schemas.tables import DAY

    manual = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    described = re.findall(r"^\*\*`(\w+)`\*\*", manual, re.MULTILINE)
    assert described == [*TRADES.checks, *TRADE_CHECKS, CURRENT_RULES, *bar_checks_of(DAY)]


def test_the_page_on_feeds_knows_every_key_of_a_feeds_file():
    from k2_market.feeds.feed import Conditions, Feed, FeedSession, Ids, Price, Sequence, Silence, Topics

    page = (ROOT / "docs" / "feeds.md").read_text(encoding="utf-8")
    described = re.findall(r"^\| `([a-z_.]+)` \| (?:yes|no) \|", page.split("## Loading files")[0], re.MULTILINE)
    parts = {"topics": Topics, "sequence": Sequence, "conditions": Conditions, "session": FeedSession}
    parts |= {"silence": Silence, "price": Price, "ids": Ids}
    keys = [name for name in Feed.model_fields if name not in parts]
    keys += [f"{part}.{name}" for part, model in parts.items() for name in model.model_fields]
    assert sorted(described) == sorted(keys)


def test_the_trading_days_on_the_page_on_feeds_are_those_of_the_calendar():
    page = (ROOT / "docs" / "feeds.md").read_text(encoding="utf-8")
    table = page.split("| market |")[1].split("\n\n")[0]
    columns = r"^\| [^|]+ \| `([^`]+)` \| `([^`]+)` \| `?([0-9:]*)`? ?\| (\w+) (\S+ \S+) \| (\S+) \|$"
    rows = re.findall(columns, table, re.MULTILINE)
    assert len(rows) == len(table.splitlines()) - 2
    for name, zone, day_starts, weekday, local, day in rows:
        starts = time.fromisoformat(day_starts) if day_starts else None
        instant = datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(zone))
        assert f"{instant:%A}" == weekday
        calendar = TradingCalendar(ZoneInfo(zone), name, date(2026, 1, 5), starts)
        assert str(calendar.trading_day_of(instant)) == day, (name, local)


def test_the_page_on_feeds_knows_every_column_of_a_csv_file():
    from k2_market.sources.csv import OPTIONAL, REQUIRED

    page = (ROOT / "docs" / "feeds.md").read_text(encoding="utf-8")
    described = re.findall(r"^\| `(\w+)` \| (yes|no) \|", page.split("### CSV")[1], re.MULTILINE)
    assert described == [*((name, "yes") for name in REQUIRED), *((name, "no") for name in OPTIONAL)]


def test_the_readme_shows_the_way_of_a_trade_inside_one_machine():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    (picture,) = re.findall(r"```mermaid\n(.+?)```", readme, re.DOTALL)
    for part in ("Kafka", "raw_trades", "trades", "ohlcv_1m", "DuckDB", "one machine"):
        assert part in picture


def test_the_readme_says_how_each_part_scales():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    section = readme.split("## From a laptop to production")[1].split("\n## ")[0]
    for part in ("Queries", "API", "Consum", "Tracing"):
        assert part in section
