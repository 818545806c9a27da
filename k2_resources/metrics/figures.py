"""Collects the values of metrics, under the rules of their declaration."""

import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from k2_resources.metrics.registry import Kind, Metric, MetricError, metric

LabelValues = tuple[str, ...]


@dataclass
class Histogram:
    """Describes how many observations fell into each bucket, the last one being infinite, and their sum."""

    counts: list[int]
    sum: float = 0.0

    def __add__(self, other: "Histogram") -> "Histogram":
        return Histogram([a + b for a, b in zip(self.counts, other.counts, strict=True)], self.sum + other.sum)


@dataclass(frozen=True)
class Counts:
    """Figures that add up: counters and histograms, by metric name and label values."""

    counters: dict[tuple[str, LabelValues], float] = field(default_factory=dict)
    histograms: dict[tuple[str, LabelValues], Histogram] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.counters or self.histograms)


class Figures:
    """Collects figures of declared metrics; may be used by several threads.

    ``with_labels`` gives a view on the same figures that fills in some labels where a metric has them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = Counts()
        self._gauges: dict[tuple[str, LabelValues], float] = {}
        self._defaults: dict[str, str] = {}

    def with_labels(self, **labels: str) -> "Figures":
        """Return the same figures, with default values for labels; a metric without such a label ignores them."""
        view = Figures.__new__(Figures)
        view._lock, view._counts, view._gauges = self._lock, self._counts, self._gauges
        view._defaults = {**self._defaults, **labels}
        return view

    def counter(self, name: str) -> "CounterFigure":
        """Return a counter's figures.

        Raises:
            MetricError: It is not declared, or not a counter.
        """
        return CounterFigure(self, metric(name, Kind.COUNTER))

    def gauge(self, name: str) -> "GaugeFigure":
        """Return a gauge's figures.

        Raises:
            MetricError: It is not declared, or not a gauge.
        """
        return GaugeFigure(self, metric(name, Kind.GAUGE))

    def histogram(self, name: str) -> "HistogramFigure":
        """Return a histogram's figures.

        Raises:
            MetricError: It is not declared, or not a histogram.
        """
        return HistogramFigure(self, metric(name, Kind.HISTOGRAM))

    def gauges(self) -> dict[tuple[str, LabelValues], float]:
        """Return the gauges' values."""
        with self._lock:
            return dict(self._gauges)

    def counts(self) -> Counts:
        """Return the counters' and histograms' values."""
        with self._lock:
            return self._copied()

    def taken(self) -> Counts:
        """Return the counters' and histograms' values, which are then zero: what happened since the last call."""
        with self._lock:
            taken = self._copied()
            self._counts.counters.clear()
            self._counts.histograms.clear()
            return taken

    def add(self, counts: Counts) -> None:
        """Add counts of elsewhere."""
        with self._lock:
            for key, amount in counts.counters.items():
                self._counts.counters[key] = self._counts.counters.get(key, 0.0) + amount
            for key, more in counts.histograms.items():
                have = self._counts.histograms.get(key)
                self._counts.histograms[key] = more if have is None else have + more

    def _copied(self) -> Counts:
        histograms = {key: replace(each, counts=list(each.counts)) for key, each in self._counts.histograms.items()}
        return Counts(dict(self._counts.counters), histograms)

    def _key(self, declared: Metric, labels: dict[str, str]) -> tuple[str, LabelValues]:
        defaults = {name: value for name, value in self._defaults.items() if name in declared.labels}
        return declared.name, declared.label_values({**defaults, **labels})


@dataclass(frozen=True)
class CounterFigure:
    """Counts up."""

    figures: Figures
    metric: Metric

    def add(self, amount: float = 1.0, **labels: str) -> None:
        """Count.

        Raises:
            MetricError: The amount is negative, or the labels are not the metric's.
        """
        if amount < 0:
            raise MetricError(f"counter {self.metric.name} can't fall, by {amount}")
        key = self.figures._key(self.metric, labels)
        self.figures.add(Counts(counters={key: amount}))


@dataclass(frozen=True)
class GaugeFigure:
    """Holds a value."""

    figures: Figures
    metric: Metric

    def set(self, value: float, **labels: str) -> None:
        """Set the value.

        Raises:
            MetricError: The labels are not the metric's.
        """
        key = self.figures._key(self.metric, labels)
        with self.figures._lock:
            self.figures._gauges[key] = float(value)


@dataclass(frozen=True)
class HistogramFigure:
    """Sorts observations into buckets."""

    figures: Figures
    metric: Metric

    def observe(self, seconds: float, **labels: str) -> None:
        """Count an observation into its bucket; a bucket's upper bound belongs to it.

        Raises:
            MetricError: The labels are not the metric's.
        """
        counts = [0] * (len(self.metric.buckets) + 1)
        counts[bisect_left(self.metric.buckets, seconds)] = 1
        self.figures.add(Counts(histograms={self.figures._key(self.metric, labels): Histogram(counts, seconds)}))

    @contextmanager
    def time(self, **labels: str) -> Iterator[None]:
        """Observe how long the block takes, whether it succeeds or not."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.observe(time.perf_counter() - started, **labels)
