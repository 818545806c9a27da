import logging

from k2_resources.logs.repeated_messages import RepeatedMessages


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def record(message: str, level: int = logging.ERROR) -> logging.LogRecord:
    return logging.LogRecord("k2.kafka.test", level, __file__, 1, message, None, None)


def test_a_repeated_message_passes_once_per_interval_and_then_counts_what_was_held_back() -> None:
    clock = Clock()
    repeats = RepeatedMessages(10, clock)

    assert [repeats.filter(record("refused")) for _ in range(5)] == [True, False, False, False, False]
    clock.now += 10
    later = record("refused")
    assert repeats.filter(later)
    assert later.suppressed == 4  # type: ignore[attr-defined]
    clock.now += 10
    assert not hasattr(record("refused"), "suppressed")
    last = record("refused")
    assert repeats.filter(last)
    assert not hasattr(last, "suppressed")


def test_messages_that_differ_in_more_than_times_and_counts_are_distinct() -> None:
    repeats = RepeatedMessages(10, Clock())
    refused = "[rdkafka#consumer-{n}] a:{port}: Connect failed: refused (after {ms}ms in state CONNECT{more})"
    shown = [
        repeats.filter(record(refused.format(n=n, port=port, ms=ms, more=more)))
        for n, port, ms, more in [
            (1, 9092, 0, ""),
            (1, 9092, 5, ""),
            (2, 9092, 5, ", 30 identical error(s) suppressed"),
            (1, 9093, 0, ""),
        ]
    ]

    assert shown == [True, False, False, True]
    assert repeats.filter(record("refused", logging.WARNING))
    assert repeats.filter(record("refused", logging.ERROR))


def test_the_memory_of_messages_is_bounded() -> None:
    repeats = RepeatedMessages(10, Clock())

    for letters in (f"{a}{b}{c}" for a in "abcdefghijkl" for b in "abcdefghijkl" for c in "abcdefghijkl"):
        repeats.filter(record(letters))

    assert len(repeats._seen) <= 1_000


def test_what_a_broker_answers_after_every_start_is_no_warning() -> None:
    usual = record("GETPID [thrd:main]: Coordinator load in progress: retrying", logging.WARNING)
    other = record("GETPID [thrd:main]: broker transport failure", logging.WARNING)
    assert [RepeatedMessages().filter(each) for each in (usual, other)] == [True, True]
    assert [each.levelno for each in (usual, other)] == [logging.DEBUG, logging.WARNING]
    assert [each.levelname for each in (usual, other)] == ["DEBUG", "WARNING"]
