import asyncio
import json
import logging
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, Producer

from k2_resources.logs.structured_logging import (
    LOG_FILE,
    carrying_context,
    configure_logging,
    correlation,
    current_correlation_id,
    get_logger,
    kafka_client_logger,
    kafka_error_callback,
    timed,
)
from k2_resources.settings import Settings


class Lines:
    """The lines of the shared log file."""

    def __init__(self, settings: Settings) -> None:
        self.path = settings.log_directory / LOG_FILE

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def last(self) -> dict[str, Any]:
        return self.all()[-1]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, log_format="json", alert_webhook="https://x.example/abc/defghi")


@pytest.fixture
def lines(settings: Settings) -> Iterator[Lines]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    configure_logging("test", settings)
    yield Lines(settings)
    for added in [each for each in root.handlers if each not in handlers]:
        root.removeHandler(added)
        added.close()
    root.setLevel(level)


def test_a_line_has_the_five_keys_first_and_then_its_fields(lines: Lines) -> None:
    get_logger("storage").info("rows written", exchange="asx", rows=1000)

    line = lines.last()
    assert list(line) == ["timestamp", "level", "component", "message", "correlation_id", "exchange", "rows"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("timestamp"))
    assert line == {
        "level": "INFO",
        "component": "storage",
        "message": "rows written",
        "correlation_id": None,
        "exchange": "asx",
        "rows": 1000,
    }


def test_a_line_goes_to_stderr_and_never_to_stdout(lines: Lines, capsys: pytest.CaptureFixture[str]) -> None:
    get_logger("storage").warning("disk nearly full")

    shown = capsys.readouterr()
    assert json.loads(shown.err) == lines.last()
    assert shown.out == ""


def test_debug_lines_go_to_the_file_alone(lines: Lines, capsys: pytest.CaptureFixture[str]) -> None:
    get_logger("storage").debug("looked")

    assert lines.last()["level"] == "DEBUG"
    assert capsys.readouterr().err == ""


def test_a_console_gets_readable_lines_while_the_file_stays_json(
    lines: Lines, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("test", settings.model_copy(update={"log_format": "console"}))
    get_logger("storage").error("bad symbol", symbol="\x1b[2Jx")

    shown = capsys.readouterr().err
    assert "bad symbol" in shown
    assert "\x1b[2J" not in shown
    assert lines.last()["symbol"] == "\x1b[2Jx"


def test_configuring_again_does_not_double_the_lines(lines: Lines, settings: Settings) -> None:
    configure_logging("test", settings)
    get_logger("storage").info("once")

    assert [line["message"] for line in lines.all()] == ["once"]


def test_the_correlation_id_is_in_every_line_inside_and_in_none_after(lines: Lines) -> None:
    logger = get_logger("storage")
    with correlation("outer"):
        logger.info("1")
        with correlation("inner"):
            logger.info("2")
            assert current_correlation_id() == "inner"
        logging.getLogger("some.library").warning("3")
    logger.info("4")

    assert [line["correlation_id"] for line in lines.all()] == ["outer", "inner", "outer", None]
    assert current_correlation_id() is None


def test_the_correlation_id_goes_along_into_a_thread_pool_and_stays_apart_there(lines: Lines) -> None:
    logger = get_logger("storage")

    def work(number: int) -> str | None:
        logger.info("working", number=number)
        return current_correlation_id()

    with ThreadPoolExecutor(max_workers=4) as pool:
        futures = []
        for number in range(50):
            with correlation(f"id-{number}"):
                futures.append(pool.submit(carrying_context(work), number))
        with correlation("mapped"):
            mapped = list(pool.map(carrying_context(work), range(50, 60)))
        without = pool.submit(work, 60).result()

    assert [future.result() for future in futures] == [f"id-{number}" for number in range(50)]
    assert mapped == ["mapped"] * 10
    assert without is None
    written = {line["number"]: line["correlation_id"] for line in lines.all()}
    assert written == {**{n: f"id-{n}" for n in range(50)}, **dict.fromkeys(range(50, 60), "mapped"), 60: None}


def test_the_correlation_id_stays_with_its_asyncio_task(lines: Lines) -> None:
    logger = get_logger("storage")

    async def work(number: int) -> None:
        with correlation(f"id-{number}"):
            await asyncio.sleep(0)
            logger.info("working", number=number)
            await asyncio.create_task(inner(number))

    async def inner(number: int) -> None:
        await asyncio.sleep(0)
        logger.info("inside", number=number)

    async def all_of_them() -> None:
        await asyncio.gather(*(work(number) for number in range(20)))

    asyncio.run(all_of_them())

    assert len(lines.all()) == 40
    assert all(line["correlation_id"] == f"id-{line['number']}" for line in lines.all())


def test_a_librarys_lines_go_through_the_same_chain(lines: Lines) -> None:
    try:
        raise ValueError("password=hunter2")
    except ValueError:
        logging.getLogger("some.library").exception("talking to %s failed", "postgres://k2:hunter2@db/k2")

    line = lines.last()
    assert line["level"] == "ERROR"
    assert line["component"] == "test"
    assert line["logger"] == "some.library"
    assert line["message"] == "talking to postgres://***@db/k2 failed"
    assert "ValueError: password=***" in line["exception"]


def test_libraries_speak_from_warning_on_and_dagster_from_info_on(lines: Lines) -> None:
    for name in ("urllib3.connectionpool", "pyiceberg.io", "sqlalchemy.engine", "dagster.daemon"):
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("news")

    assert [(line["logger"], line["message"]) for line in lines.all()] == [
        ("urllib3.connectionpool", "news"),
        ("pyiceberg.io", "news"),
        ("sqlalchemy.engine", "news"),
        ("dagster.daemon", "chatter"),
        ("dagster.daemon", "news"),
    ]


def test_a_line_that_its_own_handler_shows_already_is_not_shown_twice(
    lines: Lines, capsys: pytest.CaptureFixture[str]
) -> None:
    own = logging.getLogger("dagster")
    handler = logging.StreamHandler()
    own.addHandler(handler)
    try:
        logging.getLogger("dagster.daemon").warning("tick failed")
    finally:
        own.removeHandler(handler)

    assert capsys.readouterr().err == "tick failed\n"
    assert lines.last()["message"] == "tick failed"


def test_no_secret_reaches_a_line(lines: Lines, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    logger = get_logger("storage").bind(sasl_password="hunter2")
    logger.info("configured", config={"sasl.password": "hunter2"}, url="s3://k:hunter2@store/x")
    logger.info("posting to https://x.example/abc/defghi failed", settings=settings)
    with pytest.raises(RuntimeError), timed(logger, "post"):
        raise RuntimeError("https://hooks.slack.com/services/T/B/hunter2")

    everything = capsys.readouterr().err + lines.path.read_text()
    assert "hunter2" not in everything
    assert "defghi" not in everything


def test_a_line_feed_in_a_field_does_not_begin_a_new_line(lines: Lines) -> None:
    get_logger("storage").info("symbol", symbol='X\n{"level": "ERROR"}\u2028')

    assert len(lines.all()) == 1


def test_timed_logs_start_and_end_with_duration(lines: Lines) -> None:
    with timed(get_logger("storage"), "commit", table="asx.raw_trades") as timing:
        assert timing.seconds == 0

    start, end = lines.all()
    assert (start["level"], start["message"], start["table"]) == ("DEBUG", "commit started", "asx.raw_trades")
    assert (end["level"], end["message"], end["table"]) == ("INFO", "commit completed", "asx.raw_trades")
    assert end["operation"] == "commit"
    assert end["duration_ms"] == round(timing.seconds * 1000, 3)
    assert timing.seconds > 0


def test_timed_logs_a_failure_and_lets_it_pass(lines: Lines) -> None:
    with pytest.raises(ZeroDivisionError), timed(get_logger("storage"), "commit") as timing:
        _ = 1 / 0

    end = lines.last()
    assert (end["level"], end["message"]) == ("WARNING", "commit failed")
    assert end["error"] == "ZeroDivisionError: division by zero"
    assert end["duration_ms"] == round(timing.seconds * 1000, 3)


def test_a_kafka_client_that_cannot_connect_does_not_flood_the_log(lines: Lines) -> None:
    logger = kafka_client_logger("away")
    client = Producer({"bootstrap.servers": "127.0.0.1:1", "error_cb": kafka_error_callback(logger)}, logger=logger)
    for _ in range(20):
        client.poll(0.1)

    written = [line for line in lines.all() if line["logger"] == "k2.kafka.away"]
    assert 1 <= len(written) <= 6
    assert any("refused" in line["message"].lower() for line in written)


def test_a_kafka_clients_errors_are_warnings(lines: Lines) -> None:
    kafka_error_callback(kafka_client_logger("errors"))(KafkaError(KafkaError._ALL_BROKERS_DOWN))

    assert lines.last()["level"] == "WARNING"
    assert "_ALL_BROKERS_DOWN" in lines.last()["message"]


def test_a_logger_is_rate_limited_once_however_often_it_is_asked_for() -> None:
    assert kafka_client_logger("same") is kafka_client_logger("same")
    assert len(kafka_client_logger("same").filters) == 1
