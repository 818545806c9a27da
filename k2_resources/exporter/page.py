"""Makes the page that Prometheus scrapes: all declared metrics, with the figures that can be had right now.

Each part reads in a thread of its own. A scrape waits for it a moment, the first one longer; what a part can't say in
time, or at all, is absent from the page and counted as an error of that part, and the rest is served.
"""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from k2_resources.logs.structured_logging import get_logger
from k2_resources.metrics.figures import Figures, Histogram, LabelValues
from k2_resources.metrics.registry import CONSTANT_LABELS, METRICS, SERVICE, Kind, Metric, Source

PATIENCE_SECONDS = 0.5
"""Time that a scrape waits for parts that are still reading, all together."""
FIRST_PATIENCE_SECONDS = 5.0
"""The same for parts whose last reading is too old to stand in, as at the first look after the exporter's start."""
FRESH_SECONDS = 5.0
"""Age up to which a part's figures are served again without reading anew."""
STALE_SECONDS = 60.0
"""Age from which the figures of a part that is still reading are no longer served."""

_log = get_logger("exporter")
_V = TypeVar("_V")


class Part(Protocol):
    """A source of figures."""

    source: Source

    def report(self, figures: Figures) -> None:
        """Fill in the figures, or raise: then none of them are used."""


def metrics_page(parts: Iterable[Part], environment: str, version: str) -> CollectorRegistry:
    """Return the registry that serves all declared metrics, from some parts.

    Raises:
        ValueError: Two metrics would be served under one name.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_PlatformMetrics([_Reading(part) for part in parts], environment, version))
    return registry


@dataclass(frozen=True)
class _Outcome:
    """Describes how a part's reading ended."""

    figures: Figures | None
    seconds: float
    ended: float


class _Reading:
    """Reads one part in the background, at most once at a time."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._lock = threading.Lock()
        self._finished = threading.Event()
        self._finished.set()
        self._outcome: _Outcome | None = None
        self._failing = False

    @property
    def source(self) -> Source:
        return self._part.source

    @property
    def outcome(self) -> _Outcome | None:
        """The last reading that has ended."""
        return self._outcome

    def refresh(self) -> None:
        """Begin to read, unless a reading is under way or fresh."""
        with self._lock:
            fresh = self._outcome is not None and time.monotonic() - self._outcome.ended < FRESH_SECONDS
            if fresh or not self._finished.is_set():
                return
            self._finished.clear()
        threading.Thread(target=self._read, name=f"k2-{self.source}", daemon=True).start()

    def figures(self, since: float) -> Figures | None:
        """Return the figures, as fresh as a scrape's patience allows; None if there are none.

        Args:
            since: When the scrape began, on the monotonic clock.
        """
        patience = PATIENCE_SECONDS if self._has_recent() else FIRST_PATIENCE_SECONDS
        in_time = self._finished.wait(max(0.0, since + patience - time.monotonic()))
        outcome = self._outcome
        if outcome is None or not (in_time or self._has_recent()):
            return None
        return outcome.figures

    def _has_recent(self) -> bool:
        return self._outcome is not None and time.monotonic() - self._outcome.ended <= STALE_SECONDS

    def _read(self) -> None:
        figures: Figures | None = Figures()
        started = time.monotonic()
        try:
            assert figures is not None
            self._part.report(figures)
            self._failing = False
        except Exception as error:
            # The boundary of a part: whatever is wrong there, the others are served.
            figures = None
            self._log_once(error)
        ended = time.monotonic()
        self._outcome = _Outcome(figures, ended - started, ended)
        self._finished.set()

    def _log_once(self, error: Exception) -> None:
        if not self._failing:
            reason = f"{type(error).__name__}: {error}"
            _log.warning("facts can't be read, their metrics are absent", part=self.source.value, error=reason)
        self._failing = True


class _PlatformMetrics(Collector):
    def __init__(self, readings: Sequence[_Reading], environment: str, version: str) -> None:
        self._readings = readings
        self._environment = environment
        self._own = Figures()
        self._own.gauge("k2_build_info").set(1, version=version)
        for reading in readings:
            self._own.counter("k2_exporter_scrape_errors_total").add(0, part=reading.source.value)

    def describe(self) -> Iterator[Family]:
        for metric in METRICS.values():
            yield self._family(metric, {}, {}, {})

    def collect(self) -> Iterator[Family]:
        since = time.monotonic()
        for reading in self._readings:
            reading.refresh()
        read = [figures for reading in self._readings if (figures := self._of(reading, since)) is not None]
        all_figures = [*read, self._own]
        gauges = {key: value for each in all_figures for key, value in each.gauges().items()}
        counts = Figures()
        for each in all_figures:
            counts.add(each.counts())
        added = counts.counts()
        gauges_of, counters_of = _by_name(gauges), _by_name(added.counters)
        histograms_of = _by_name(added.histograms)
        for name, metric in METRICS.items():
            yield self._family(metric, gauges_of.get(name, {}), counters_of.get(name, {}), histograms_of.get(name, {}))

    def _of(self, reading: _Reading, since: float) -> Figures | None:
        figures = reading.figures(since)
        part = reading.source.value
        self._own.gauge("k2_exporter_part_up").set(figures is not None, part=part)
        if figures is None:
            self._own.counter("k2_exporter_scrape_errors_total").add(part=part)
        if reading.outcome is not None:
            self._own.gauge("k2_exporter_part_read_seconds").set(reading.outcome.seconds, part=part)
        return figures

    def _family(
        self,
        metric: Metric,
        gauges: Mapping[LabelValues, float],
        counters: Mapping[LabelValues, float],
        histograms: Mapping[LabelValues, Histogram],
    ) -> Family:
        names = [*CONSTANT_LABELS, *metric.labels]
        constant = (SERVICE, self._environment, metric.component)
        if metric.kind is Kind.GAUGE:
            gauge = GaugeMetricFamily(metric.name, metric.help, labels=names)
            for labels, value in sorted(gauges.items()):
                gauge.add_metric([*constant, *labels], value)
            return gauge
        if metric.kind is Kind.COUNTER:
            counter = CounterMetricFamily(metric.name, metric.help, labels=names)
            for labels, value in sorted(counters.items()):
                counter.add_metric([*constant, *labels], value)
            return counter
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=names)
        for labels, each in sorted(histograms.items(), key=lambda item: item[0]):
            histogram.add_metric([*constant, *labels], _cumulative(metric, each), each.sum)
        return histogram


def _cumulative(metric: Metric, histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*map(floatToGoString, metric.buckets), "+Inf"]
    return list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True))


def _by_name(values: Mapping[tuple[str, LabelValues], _V]) -> dict[str, dict[LabelValues, _V]]:
    by_name: dict[str, dict[LabelValues, _V]] = {}
    for (name, labels), value in values.items():
        by_name.setdefault(name, {})[labels] = value
    return by_name
