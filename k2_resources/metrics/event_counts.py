"""Counts events that leave no other trace: alerts sent, calls retried.

A process counts in memory; every few seconds, and at its end, what it counted is added to one SQLite file that all
processes share and the exporter reads. So counts outlive processes; a killed one loses its last few seconds.
"""

import atexit
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from k2_market.errors import K2Error
from k2_resources.files.private_directories import make_private
from k2_resources.logs.structured_logging import get_logger
from k2_resources.metrics.figures import CounterFigure, Counts, Figures, Histogram, HistogramFigure
from k2_resources.metrics.registry import METRICS, Kind, MetricError, Source
from k2_resources.settings import Settings

COUNTS_FILE = "counts.db"
"""Name of the file in ``settings.home``."""
KEEP_INTERVAL_SECONDS = 5.0

_BUSY_TIMEOUT_SECONDS = 5.0
_SUM = "sum"
_Figure = TypeVar("_Figure", CounterFigure, HistogramFigure)
_log = get_logger("metrics")
_counted = Figures()
_keepers: dict[Path, "_Keeper"] = {}


class CountsUnavailable(K2Error):
    """The file of counts can't be read or written."""


def counter(name: str) -> CounterFigure:
    """Return a counter of this process.

    Raises:
        MetricError: It is not declared, not a counter, or its figures come from facts.
    """
    return _only_counted(_counted.counter(name))


def histogram(name: str) -> HistogramFigure:
    """Return a histogram of this process.

    Raises:
        MetricError: It is not declared, not a histogram, or its figures come from facts.
    """
    return _only_counted(_counted.histogram(name))


def count_call(operation: str, outcome: str) -> None:
    """Count how a call under a retry policy ended (#006); made to be a policy's ``observe``."""
    counter("k2_retried_calls_total").add(operation=operation, outcome=str(outcome))


def keep_counts(settings: Settings) -> None:
    """Have this process's counts added to the file, every few seconds and at its end; once is enough."""
    path = settings.home / COUNTS_FILE
    if path not in _keepers:
        _keepers[path] = _Keeper(_counted, CountsFile(path))
        _keepers[path].start()
        atexit.register(_keepers[path].keep)


class CountsFile:
    """The SQLite file that holds all processes' counts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, counts: Counts) -> None:
        """Add counts to those in the file, all or none.

        Raises:
            CountsUnavailable: The file can't be written.
        """
        rows = [
            (name, json.dumps(labels), part, value)
            for (name, labels), parts in _parts(counts)
            for part, value in parts.items()
        ]
        with self._open() as connection:
            connection.executemany(
                "INSERT INTO counts (metric, labels, part, value) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (metric, labels, part) DO UPDATE SET value = value + excluded.value",
                rows,
            )

    def read(self) -> Counts:
        """Return all counts of metrics that are declared today; those of earlier versions are left in the file.

        Raises:
            CountsUnavailable: The file can't be read.
        """
        if not self._path.exists():
            return Counts()
        found: dict[tuple[str, tuple[str, ...]], dict[str, float]] = {}
        with self._open() as connection:
            for name, labels, part, value in connection.execute("SELECT metric, labels, part, value FROM counts"):
                found.setdefault((name, tuple(json.loads(labels))), {})[part] = value
        read = Counts()
        for (name, labels), parts in found.items():
            declared = METRICS.get(name)
            if declared is None or len(labels) != len(declared.labels):
                continue
            if declared.kind is Kind.COUNTER and "" in parts:
                read.counters[name, labels] = parts[""]
            elif declared.kind is Kind.HISTOGRAM and parts.keys() - {_SUM} <= set(_bucket_names(declared.buckets)):
                counts = [int(parts.get(bucket, 0)) for bucket in _bucket_names(declared.buckets)]
                read.histograms[name, labels] = Histogram(counts, parts.get(_SUM, 0.0))
        return read

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            make_private(self._path.parent)
            with closing(sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_SECONDS)) as connection, connection:
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS counts (metric TEXT, labels TEXT, part TEXT, value REAL NOT NULL, "
                    "PRIMARY KEY (metric, labels, part)) WITHOUT ROWID"
                )
                yield connection
        except (OSError, sqlite3.Error) as error:
            raise CountsUnavailable(
                f"{self._path}: {error}. If the file is damaged, move it away; counting starts anew."
            ) from error


class _Keeper:
    """Moves one process's counts to the file."""

    def __init__(self, figures: Figures, file: CountsFile) -> None:
        self._figures = figures
        self._file = file
        self._failing = False

    def start(self) -> None:
        threading.Thread(target=self._keep_on, name="k2-counts", daemon=True).start()

    def keep(self) -> None:
        counts = self._figures.taken()
        if not counts:
            return
        try:
            self._file.add(counts)
            self._failing = False
        except CountsUnavailable as error:
            # Counting must not stop the work: the counts wait in memory for the next time.
            self._figures.add(counts)
            if not self._failing:
                _log.warning("counts can't be kept, they wait in memory", error=str(error))
            self._failing = True

    def _keep_on(self) -> None:
        never = threading.Event()
        while not never.wait(KEEP_INTERVAL_SECONDS):
            self.keep()


def _only_counted(figure: _Figure) -> _Figure:
    if figure.metric.source is not Source.COUNTED:
        raise MetricError(f"metric {figure.metric.name} comes from facts ({figure.metric.source}); don't count it")
    return figure


def _bucket_names(buckets: tuple[float, ...]) -> list[str]:
    return [*(f"le={bound!r}" for bound in buckets), "le=inf"]


def _parts(counts: Counts) -> Iterator[tuple[tuple[str, tuple[str, ...]], dict[str, float]]]:
    for key, value in counts.counters.items():
        yield key, {"": value}
    for key, each in counts.histograms.items():
        names = _bucket_names(METRICS[key[0]].buckets)
        yield key, {**dict(zip(names, map(float, each.counts), strict=True)), _SUM: each.sum}


class EventCounts:
    """The counts of all processes, as a part of the exporter's page."""

    source = Source.COUNTED

    def __init__(self, settings: Settings) -> None:
        self._file = CountsFile(settings.home / COUNTS_FILE)

    def report(self, figures: Figures) -> None:
        """Fill in the figures.

        Raises:
            CountsUnavailable: The file can't be read.
        """
        figures.add(self._file.read())
