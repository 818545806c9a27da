import multiprocessing
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from k2_resources.metrics import event_counts
from k2_resources.metrics.event_counts import CountsFile, CountsUnavailable, count_call, counter, histogram
from k2_resources.metrics.figures import Counts, Figures
from k2_resources.metrics.registry import MetricError
from k2_resources.runtime.retry_policy import Outcome

CALLS = "k2_retried_calls_total"
SENDING = "k2_alert_send_duration_seconds"


def some_counts(calls: int = 2) -> Counts:
    figures = Figures()
    figures.counter(CALLS).add(calls, operation="commit", outcome="first_time")
    figures.histogram(SENDING).observe(0.2, sink="webhook")
    figures.histogram(SENDING).observe(99, sink="webhook")
    return figures.counts()


def _add(path: Path) -> None:
    for _ in range(20):
        CountsFile(path).add(some_counts(1))


def test_what_is_added_is_read_back(tmp_path: Path) -> None:
    CountsFile(tmp_path / "counts.db").add(some_counts())

    assert CountsFile(tmp_path / "counts.db").read() == some_counts()


def test_a_file_that_is_not_there_holds_nothing_and_reading_makes_none(tmp_path: Path) -> None:
    assert CountsFile(tmp_path / "counts.db").read() == Counts()
    assert list(tmp_path.iterdir()) == []


def test_the_counts_of_several_processes_add_up(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_add, args=(tmp_path / "counts.db",)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    read = CountsFile(tmp_path / "counts.db").read()
    assert read.counters[CALLS, ("commit", "first_time")] == 60
    assert sum(read.histograms[SENDING, ("webhook",)].counts) == 120
    assert read.histograms[SENDING, ("webhook",)].counts[-1] == 60


def test_counts_of_metrics_that_are_no_longer_declared_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "counts.db"
    CountsFile(path).add(some_counts())
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO counts VALUES ('k2_gone_total', '[]', '', 1)")
        connection.execute(f"INSERT INTO counts VALUES ('{CALLS}', '[\"one label\"]', '', 1)")
        connection.execute(f"INSERT INTO counts VALUES ('{SENDING}', '[\"old\"]', 'le=0.123', 1)")
    connection.close()

    assert CountsFile(path).read() == some_counts()


def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "counts.db").write_bytes(b"not a database, but long enough to be looked at" * 50)

    with pytest.raises(CountsUnavailable, match=r"counts\.db"):
        CountsFile(tmp_path / "counts.db").add(some_counts())
    with pytest.raises(CountsUnavailable, match=r"counts\.db"):
        CountsFile(tmp_path / "counts.db").read()


def test_counts_that_cannot_be_kept_wait_in_memory(tmp_path: Path) -> None:
    (tmp_path / "in the way").write_text("")
    figures = Figures()
    figures.add(some_counts())
    event_counts._Keeper(figures, CountsFile(tmp_path / "in the way" / "counts.db")).keep()
    assert figures.counts() == some_counts()

    event_counts._Keeper(figures, CountsFile(tmp_path / "counts.db")).keep()
    assert not figures.counts()
    assert CountsFile(tmp_path / "counts.db").read() == some_counts()


def test_only_what_is_counted_may_be_counted() -> None:
    with pytest.raises(MetricError, match="comes from facts"):
        counter("k2_dead_letters_total")
    with pytest.raises(MetricError, match="comes from facts"):
        histogram("k2_build_duration_seconds")
    with pytest.raises(MetricError):
        counter(SENDING)


def test_a_retry_policys_outcomes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = Figures()
    monkeypatch.setattr(event_counts, "_counted", figures)
    count_call("commit", Outcome.AFTER_RETRIES)

    assert figures.counts().counters == {(CALLS, ("commit", "after_retries")): 1}


def test_a_process_keeps_its_counts_when_it_ends(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from k2_resources.settings import Settings\n"
        "from k2_resources.metrics.event_counts import count_call, keep_counts\n"
        "settings = Settings(home=Path(sys.argv[1])); keep_counts(settings); keep_counts(settings)\n"
        "count_call('commit', 'first_time')\n"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)

    assert CountsFile(tmp_path / "counts.db").read().counters == {(CALLS, ("commit", "first_time")): 2}
