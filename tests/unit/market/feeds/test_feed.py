"""A feed's file: what it may say, what it is refused for in plain words, and that a wrong one harms no other."""

import tomllib
from datetime import date, datetime, time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from repository import SHIPPED_FEEDS

from k2_market.errors import FeedFileError, UnknownFeedError
from k2_market.feeds.feed import (
    Conditions,
    Feed,
    FeedSession,
    Ids,
    Price,
    Sequence,
    Silence,
    Topics,
    feed_named,
    load_feeds,
    parse_feed,
)
from k2_market.feeds.file_errors import EXPECTED, explain_problems

SHIPPED = SHIPPED_FEEDS
TEXT = (SHIPPED / "sim.toml").read_text(encoding="utf-8")


def refusal(text: str) -> str:
    with pytest.raises(FeedFileError) as refused:
        parse_feed(text, "f.toml")
    assert str(refused.value).startswith("f.toml: ")
    return str(refused.value).removeprefix("f.toml: ")


def named(name: str, topic: str | None = None) -> str:
    return TEXT.replace('"sim"', f'"{name}"', 1).replace(".sim", f".{topic or name}")


def put(directory: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (directory / f"{name}.toml").write_text(text, encoding="utf-8")
    return directory


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ("colour = 'red'\n" + TEXT, "key colour: there is no such key; those there are: name, exchange, mic, "),
        (TEXT.replace("calendar", "calender"), "key calender: there is no such key; did you mean calendar?"),
        (TEXT.replace("scope", "skope"), "key sequence.skope: there is no such key; did you mean sequence.scope?"),
        ("day_starts = '17:00'\n" + TEXT, "key day_starts: there is no such key; did you mean session.day_starts?"),
        (TEXT + "\n[sessions]\nday_starts = '17:00'\n", "key sessions: there is no such key; did you mean session?"),
        (TEXT.replace("currency", "# currency"), "key currency: missing; expected what prices are in"),
        (
            TEXT.replace('equities"\n', 'equity"\n'),
            "key asset_class: found 'equity'; expected equities, crypto, futures",
        ),
        (
            TEXT.replace("2026-01-02", '"2026-01-02T10"'),
            "key start_date: found '2026-01-02T10'; expected a date, as 2026",
        ),
        (
            TEXT.replace("New_York", "NewYork"),
            "'America/NewYork' is not a time zone of the IANA database; did you mean America/New_York",
        ),
        (
            TEXT.replace("XNYS", "XNYZ"),
            "key calendar: 'XNYZ' is neither '24/7' nor a calendar of exchange_calendars; did you mean",
        ),
        (TEXT.replace("XNYS", "xnys"), "did you mean XNYS"),
        (TEXT.replace('"sim"', '"Sim"', 1), "key name: found 'Sim'; expected lower-case letters"),
        (TEXT.replace('"sim"', '"temp"', 1), "key name: 'temp' is a name or a word that SQL keeps for itself; choose"),
        (
            TEXT.replace("trades.sim", "trades sim"),
            "key topics.trades: found 'market.equities.trades sim'; expected a Kafka",
        ),
        (
            TEXT.replace("quotes.sim", "trades.sim"),
            "key topics.quotes: market.equities.trades.sim is the topic of its trades",
        ),
        (TEXT.replace('["AV"]', '"AV"'), "key conditions.no_volume: found 'AV'; expected a list of condition codes"),
        (TEXT.replace('["AV"]', "[1]"), "key conditions.no_volume: found 1; expected a list of condition codes"),
        (
            TEXT.replace("[topics]", "[topics]\npartitions = 0"),
            "key topics.partitions: found 0; expected a whole number",
        ),
        (TEXT.split("[topics]")[0] + 'topics = "trades"', "key topics: found 'trades'; expected a table, as [topics]"),
        (
            TEXT + "[session]\nminutes_after = -1\n",
            "key session.minutes_after: found -1; expected a whole number of min",
        ),
        (TEXT + "[session]\nday_starts = '5 pm'\n", "key session.day_starts: found '5 pm'; expected hours and minutes"),
        (
            TEXT + "[session]\nday_starts = '24:00'\n",
            "key session.day_starts: found '24:00'; expected hours and minutes",
        ),
        (
            TEXT + "[session]\nday_starts = 17:00:30\n",
            "key session.day_starts: found datetime.time(17, 0, 30); expected",
        ),
        (TEXT + "[session]\nday_starts = 17\n", "key session.day_starts: found 17; expected hours and minutes"),
        ("name = \n" + TEXT, "not valid TOML: "),
    ],
)
def test_what_is_wrong_is_said_with_key_and_what_was_expected(wrong: str, expected: str) -> None:
    found = refusal(wrong)
    assert expected in found
    for foreign in ("Input should be", "not permitted", "Field required", "Value error", "pattern"):
        assert foreign not in found


def test_every_key_that_there_is_has_words_for_what_is_expected() -> None:
    parts: dict[str, type[BaseModel]] = {
        "topics": Topics,
        "sequence": Sequence,
        "conditions": Conditions,
        "session": FeedSession,
        "silence": Silence,
        "price": Price,
        "ids": Ids,
    }
    keys = [*Feed.model_fields, *(f"{part}.{name}" for part, model in parts.items() for name in model.model_fields)]
    assert sorted(EXPECTED) == sorted(keys)


@given(
    key=st.sampled_from(sorted(EXPECTED)),
    value=st.sampled_from(["x y", "", 3.5, -7, True, [], {}, [[1]], datetime(2026, 1, 2, 3, 4, 5), {"a": 1}, time(1)]),
)
def test_any_value_under_any_key_is_taken_or_refused_with_that_key_in_plain_words(key: str, value: object) -> None:
    content = tomllib.loads(TEXT)
    table, _, name = key.rpartition(".")
    (content.setdefault(table, {}) if table else content)[name] = value
    try:
        Feed.model_validate(content)
    except ValidationError as error:
        words = explain_problems(error)
    else:
        return
    assert f"key {key}" in words
    assert "Input should be" not in words


@pytest.mark.parametrize("name", ["24/7", "24/5", "us_futures", "CMES", "NYSE", "XTKS"])
def test_every_name_of_the_library_is_a_calendar(name: str) -> None:
    assert parse_feed(TEXT.replace("XNYS", name), "f.toml").calendar == name


@pytest.mark.parametrize("written", ['"17:00"', "17:00:00"])
def test_a_feed_may_say_when_its_days_start(written: str) -> None:
    assert parse_feed(f"{TEXT}[session]\nday_starts = {written}\n", "f.toml").session.day_starts == time(17)


def test_feeds_that_ship_are_all_well() -> None:
    declared = load_feeds([SHIPPED])
    assert (set(declared), declared.refused) == ({"asx", "hitbtc", "sim"}, ())


WRONG = {
    "not TOML": "name = ",
    "an unknown key": "colour = 'red'\n" + named("other"),
    "no calendar of the library": named("other").replace("XNYS", "XXXX"),
    "a name that SQL has": named("select"),
    "a name that another file has": named("asx", "third"),
    "the topic of another feed": named("other", "asx"),
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_file_is_refused_and_harms_no_other(text: str, tmp_path: Path) -> None:
    declared = load_feeds([SHIPPED, put(tmp_path, aaa=text, good=named("good"))])
    assert set(declared) == {"asx", "hitbtc", "sim", "good"}
    assert declared["asx"] == load_feeds([SHIPPED])["asx"]
    (refused,) = declared.refused
    assert refused.path == str(tmp_path / "aaa.toml")
    assert str(refused) == f"{refused.path}: {refused.reason}"
    assert "key " in refused.reason or "not valid TOML" in refused.reason


def test_a_file_that_is_no_text_or_can_t_be_read_is_refused_and_harms_no_other(tmp_path: Path) -> None:
    put(tmp_path, good=named("good"))
    (tmp_path / "utf16.toml").write_bytes(TEXT.encode("utf-16"))
    (tmp_path / "directory.toml").mkdir()
    (tmp_path / "dangling.toml").symlink_to(tmp_path / "nowhere.toml")
    declared = load_feeds([tmp_path])
    assert list(declared) == ["good"]
    assert sorted(each.name for each in declared.refused) == ["dangling", "directory", "utf16"]
    assert all("can't be read: " in each.reason for each in declared.refused)


def test_of_two_feeds_on_one_topic_the_first_stands(tmp_path: Path) -> None:
    declared = load_feeds([put(tmp_path, a=named("one", "shared"), b=named("two", "shared"))])
    assert list(declared) == ["one"]
    (refused,) = declared.refused
    assert "key topics.trades: market.equities.trades.shared is already the topic of feed 'one'" in refused.reason


def test_a_command_for_a_refused_feed_says_why_by_its_declared_name_and_by_its_file_s(tmp_path: Path) -> None:
    put(tmp_path, file=named("shop").replace("XNYS", "XXXX"), broken="name = ", good=named("good"))
    declared = load_feeds([tmp_path])
    with pytest.raises(FeedFileError, match=r"file\.toml: key calendar: 'XXXX'"):
        feed_named(declared, "shop")
    with pytest.raises(FeedFileError, match=r"broken\.toml: not valid TOML"):
        feed_named(declared, "broken")
    assert feed_named(declared, "good").name == "good"


def test_a_command_for_a_feed_that_nobody_declares_names_those_declared_and_those_refused(tmp_path: Path) -> None:
    put(tmp_path, good=named("good"), wrong=named("other").replace("XNYS", "XXXX"))
    with pytest.raises(UnknownFeedError, match=r"no feed 'third'; those declared are good .*Refused are .*wrong\.toml"):
        feed_named(load_feeds([tmp_path]), "third")


def test_a_directory_of_feed_files_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FeedFileError, match="no such directory"):
        load_feeds([tmp_path / "absent"])


def test_feeds_refused_later_keep_their_file_and_leave_the_others(tmp_path: Path) -> None:
    declared = load_feeds([put(tmp_path, a=named("one"), b=named("two"), c="name = ")]).without({"two": "key x: why"})
    assert list(declared) == ["one"]
    assert [str(each) for each in declared.refused if each.name == "two"] == [f"{tmp_path / 'b.toml'}: key x: why"]
    assert len(declared.refused) == 2


def test_a_feed_s_values_are_those_of_its_file() -> None:
    feed = parse_feed(TEXT, "f.toml")
    assert (feed.name, feed.start_date, feed.session.day_starts) == ("sim", date(2026, 1, 2), None)
