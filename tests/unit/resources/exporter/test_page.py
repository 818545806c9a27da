import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families

from k2_resources.exporter import page
from k2_resources.exporter.page import metrics_page
from k2_resources.metrics.figures import Figures
from k2_resources.metrics.registry import METRICS, Kind, Source


@dataclass
class Told:
    """A part that reports what it is told to."""

    source: Source
    tell: Callable[[Figures], None]
    asked: int = 0

    def report(self, figures: Figures) -> None:
        self.asked += 1
        self.tell(figures)


def queue_depth(depth: float) -> Callable[[Figures], None]:
    return lambda figures: figures.gauge("k2_run_queue_depth").set(depth)


def brokers(figures: Figures) -> None:
    figures.gauge("k2_kafka_brokers").set(3)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds by which the page's clock is ahead."""
    ahead = [0.0]

    class Ahead:
        monotonic = staticmethod(lambda: time.monotonic() + ahead[0])

    monkeypatch.setattr(page, "time", Ahead)
    return ahead


def scraped(registry: CollectorRegistry) -> dict[str, Family]:
    text = generate_latest(registry).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    constant = {"service": "k2", "environment": "test", "component": METRICS[name].component}
    return registry.get_sample_value(name, {**constant, **labels})


def test_every_declared_metric_is_served_even_without_figures() -> None:
    families = scraped(metrics_page([], "test", "1"))

    served = {name.removesuffix("_total") for name in METRICS}
    assert set(families) == served
    for metric in METRICS.values():
        family = families[metric.name.removesuffix("_total")]
        assert family.type == metric.kind.value
        assert family.documentation == metric.help


def test_a_metric_created_elsewhere_under_our_name_is_refused() -> None:
    registry = metrics_page([], "test", "1")
    with pytest.raises(ValueError, match="Duplicated"):
        Counter("k2_dead_letters", "Again.", registry=registry)
    with pytest.raises(ValueError, match="Duplicated"):
        Counter("k2_build_duration_seconds", "Again.", registry=registry)


def test_figures_are_served_with_service_environment_and_component() -> None:
    registry = metrics_page([Told(Source.RUNS, queue_depth(4))], "test", "1")

    assert (
        registry.get_sample_value(
            "k2_run_queue_depth", {"service": "k2", "environment": "test", "component": "orchestration"}
        )
        == 4
    )
    assert value(registry, "k2_build_info", version="1") == 1


def test_counters_and_histograms_of_several_parts_add_up() -> None:
    def calls(figures: Figures) -> None:
        figures.counter("k2_retried_calls_total").add(2, operation="o", outcome="x")
        for seconds in (0.001, 0.2, 9):
            figures.histogram("k2_alert_send_duration_seconds").observe(seconds, sink="log")

    registry = metrics_page([Told(Source.COUNTED, calls), Told(Source.RUNS, calls)], "test", "1")
    assert value(registry, "k2_retried_calls_total", operation="o", outcome="x") == 4
    samples = {
        (sample.name, sample.labels.get("le")): sample.value
        for sample in scraped(registry)["k2_alert_send_duration_seconds"].samples
    }
    expected = {"0.001": 2, "0.1": 2, "0.25": 4, "5.0": 4, "+Inf": 6}
    for bound, count in expected.items():
        assert samples["k2_alert_send_duration_seconds_bucket", bound] == count
    assert samples["k2_alert_send_duration_seconds_count", None] == 6
    assert samples["k2_alert_send_duration_seconds_sum", None] == pytest.approx(2 * 9.201)


def test_a_part_that_fails_is_absent_and_counted_while_the_others_are_served(clock: list[float]) -> None:
    def half_way(figures: Figures) -> None:
        figures.gauge("k2_run_queue_depth").set(1)
        raise ConnectionError("broker away")

    failing = Told(Source.RUNS, half_way)
    registry = metrics_page([failing, Told(Source.KAFKA, brokers)], "test", "1")
    for scrape in (1, 2):
        text = generate_latest(registry).decode()
        assert failing.asked == scrape
        clock[0] += page.FRESH_SECONDS

    assert "k2_run_queue_depth{" not in text
    assert "# TYPE k2_run_queue_depth gauge" in text
    samples = {
        (sample.name, sample.labels.get("part")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["k2_exporter_scrape_errors_total", "runs"] == 2
    assert samples["k2_exporter_scrape_errors_total", "kafka"] == 0
    assert samples["k2_exporter_part_up", "runs"] == 0
    assert samples["k2_exporter_part_up", "kafka"] == 1
    assert samples["k2_kafka_brokers", None] == 3


def test_a_part_that_comes_back_is_served_again(clock: list[float]) -> None:
    answers = [ConnectionError("away"), None]

    def tell(figures: Figures) -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        brokers(figures)

    registry = metrics_page([Told(Source.KAFKA, tell)], "test", "1")
    assert value(registry, "k2_kafka_brokers") is None
    clock[0] += page.FRESH_SECONDS
    assert value(registry, "k2_kafka_brokers") == 3


def test_figures_are_not_read_anew_while_they_are_fresh(clock: list[float]) -> None:
    part = Told(Source.KAFKA, brokers)
    registry = metrics_page([part], "test", "1")
    for _ in range(5):
        scraped(registry)
    assert part.asked == 1
    clock[0] += page.FRESH_SECONDS
    scraped(registry)
    assert part.asked == 2


def test_a_slow_part_delays_no_scrape_beyond_the_patience_and_is_read_once_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(page, "FIRST_PATIENCE_SECONDS", 0.05)
    release = threading.Event()

    def slow(figures: Figures) -> None:
        assert release.wait(10)
        queue_depth(1)(figures)

    part = Told(Source.RUNS, slow)
    registry = metrics_page([part, Told(Source.KAFKA, brokers)], "test", "1")
    started = time.monotonic()
    for _ in range(3):
        assert value(registry, "k2_run_queue_depth") is None
        assert value(registry, "k2_kafka_brokers") == 3
    assert time.monotonic() - started < 2
    assert part.asked == 1
    monkeypatch.setattr(page, "FIRST_PATIENCE_SECONDS", 5)
    release.set()
    assert value(registry, "k2_run_queue_depth") == 1


def test_the_first_page_waits_longer_than_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "PATIENCE_SECONDS", 0.05)
    started = threading.Event()

    def slow(figures: Figures) -> None:
        assert not started.wait(0.3)
        queue_depth(1)(figures)

    assert value(metrics_page([Told(Source.RUNS, slow)], "test", "1"), "k2_run_queue_depth") == 1


def test_figures_of_a_slow_part_are_served_until_they_are_stale(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    release = threading.Event()
    depths = [1, 2]

    def tell(figures: Figures) -> None:
        depth = depths.pop(0)
        if depth == 2:
            assert release.wait(10)
        queue_depth(depth)(figures)

    registry = metrics_page([Told(Source.RUNS, tell)], "test", "1")
    assert value(registry, "k2_run_queue_depth") == 1
    monkeypatch.setattr(page, "PATIENCE_SECONDS", 0.05)
    clock[0] += page.FRESH_SECONDS
    assert value(registry, "k2_run_queue_depth") == 1
    monkeypatch.setattr(page, "FIRST_PATIENCE_SECONDS", 0.05)
    clock[0] += page.STALE_SECONDS
    assert value(registry, "k2_run_queue_depth") is None
    monkeypatch.setattr(page, "FIRST_PATIENCE_SECONDS", 5)
    release.set()
    assert value(registry, "k2_run_queue_depth") == 2


def test_kinds_are_prometheus_own_words() -> None:
    assert {kind.value for kind in Kind} == {"counter", "gauge", "histogram"}
