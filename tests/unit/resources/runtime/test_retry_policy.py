import contextlib
from collections.abc import Callable

import pytest

from k2_resources.runtime import retry_policy
from k2_resources.runtime.retry_policy import Outcome, RetryPolicy


class Flaky:
    """Fails with the given errors, one a call, then returns 'done'."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def write(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


class LogLines:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, object]]] = []

    def warning(self, event: str, **fields: object) -> None:
        self.lines.append(("warning", event, fields))

    def error(self, event: str, **fields: object) -> None:
        self.lines.append(("error", event, fields))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> LogLines:
    lines = LogLines()
    monkeypatch.setattr(retry_policy, "get_logger", lambda _component: lines)
    return lines


def policy(
    delays: list[float], observe: Callable[[str, Outcome], None] = lambda _name, _outcome: None, retries: int = 3
) -> RetryPolicy:
    return RetryPolicy(
        is_transient=lambda error: isinstance(error, ConnectionError),
        retries=retries,
        sleep=delays.append,
        observe=observe,
    )


def test_a_transient_failure_is_tried_again_after_a_tenth_two_and_four_tenths_of_a_second(log: LogLines) -> None:
    delays: list[float] = []
    flaky = Flaky(*(ConnectionError("away") for _ in range(3)))

    assert policy(delays).call(flaky.write) == "done"

    assert flaky.calls == 4
    assert delays == [0.1, 0.2, 0.4]


def test_a_permanent_failure_is_raised_at_once_and_not_logged_here(log: LogLines) -> None:
    delays: list[float] = []
    flaky = Flaky(ValueError("no such table"))

    with pytest.raises(ValueError, match="no such table"):
        policy(delays).call(flaky.write)

    assert (flaky.calls, delays, log.lines) == (1, [], [])


def test_a_permanent_failure_after_a_transient_one_ends_the_retries(log: LogLines) -> None:
    flaky = Flaky(ConnectionError("away"), ValueError("no such table"))

    with pytest.raises(ValueError, match="no such table"):
        policy([]).call(flaky.write)

    assert flaky.calls == 2


def test_after_the_last_retry_the_failure_itself_is_raised(log: LogLines) -> None:
    flaky = Flaky(*(ConnectionError(f"away {n}") for n in range(9)))

    with pytest.raises(ConnectionError, match="away 3"):
        policy([]).call(flaky.write)

    assert flaky.calls == 4


def test_the_wait_does_not_grow_beyond_ten_seconds(log: LogLines) -> None:
    delays: list[float] = []

    policy(delays, retries=9).call(Flaky(*(ConnectionError() for _ in range(9))).write)

    assert delays[-2:] == [10.0, 10.0]


def test_each_retry_is_logged_with_function_error_and_delay_and_the_final_failure_once(log: LogLines) -> None:
    with pytest.raises(ConnectionError):
        policy([]).call(Flaky(*(ConnectionError("away") for _ in range(4))).write)

    away = {"function": "Flaky.write", "error": "ConnectionError: away"}
    assert log.lines == [
        ("warning", "Attempt 1/4 failed, retrying", {**away, "delay_seconds": 0.1}),
        ("warning", "Attempt 2/4 failed, retrying", {**away, "delay_seconds": 0.2}),
        ("warning", "Attempt 3/4 failed, retrying", {**away, "delay_seconds": 0.4}),
        ("error", "All 4 attempts failed", away),
    ]


@pytest.mark.parametrize(
    ("errors", "outcome"),
    [
        ([], Outcome.FIRST_TIME),
        ([ConnectionError()], Outcome.AFTER_RETRIES),
        ([ConnectionError()] * 4, Outcome.RETRIES_USED_UP),
        ([ValueError()], Outcome.PERMANENT_FAILURE),
    ],
)
def test_how_a_call_ended_is_told_once(log: LogLines, errors: list[Exception], outcome: Outcome) -> None:
    seen: list[tuple[str, Outcome]] = []
    with contextlib.suppress(ConnectionError, ValueError):
        policy([], observe=lambda name, how: seen.append((name, how))).call(Flaky(*errors).write)
    assert seen == [("Flaky.write", outcome)]


def test_arguments_reach_the_function(log: LogLines) -> None:
    assert policy([]).call(divmod, 7, 2) == (3, 1)
