from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_resources.metrics.figures import Counts, Figures, Histogram
from k2_resources.metrics.registry import CALL_BUCKETS, MetricError

FEED = {"exchange": "ASX", "asset_class": "equities", "feed": "asx"}


def test_figures_are_kept_by_name_and_label_values() -> None:
    figures = Figures()
    figures.gauge("k2_table_rows").set(7, **FEED, table="trades")
    figures.counter("k2_dead_letters_total").add(2, **FEED, table="raw_trades")
    figures.counter("k2_dead_letters_total").add(table="raw_trades", **FEED)

    assert figures.gauges() == {("k2_table_rows", ("ASX", "equities", "asx", "trades")): 7}
    assert figures.counts().counters == {("k2_dead_letters_total", ("ASX", "equities", "asx", "raw_trades")): 3}


def test_default_labels_are_filled_in_where_a_metric_has_them() -> None:
    figures = Figures()
    of_feed = figures.with_labels(**FEED)
    of_feed.with_labels(table="trades").gauge("k2_table_rows").set(7)
    of_feed.gauge("k2_run_queue_depth").set(1)

    assert figures.gauges() == {
        ("k2_table_rows", ("ASX", "equities", "asx", "trades")): 7,
        ("k2_run_queue_depth", ()): 1,
    }


@pytest.mark.parametrize("labels", [FEED, {**FEED, "table": "t", "symbol": "BHP"}, {}])
def test_wrong_labels_are_refused(labels: dict[str, str]) -> None:
    with pytest.raises(MetricError, match="k2_table_rows: expected labels"):
        Figures().gauge("k2_table_rows").set(1, **labels)


def test_a_figure_of_another_kind_is_refused() -> None:
    figures = Figures()
    with pytest.raises(MetricError):
        figures.counter("k2_table_rows")
    with pytest.raises(MetricError):
        figures.gauge("k2_dead_letters_total")
    with pytest.raises(MetricError):
        figures.histogram("k2_dead_letters_total")
    with pytest.raises(MetricError):
        figures.gauge("k2_no_such")


def test_a_counter_does_not_fall() -> None:
    with pytest.raises(MetricError, match="can't fall"):
        Figures().counter("k2_retried_calls_total").add(-1, operation="o", outcome="x")


@given(st.lists(st.floats(min_value=0, max_value=100)))
def test_each_observation_is_in_the_first_bucket_that_reaches_it(seconds: list[float]) -> None:
    figures = Figures()
    for each in seconds:
        figures.histogram("k2_alert_send_duration_seconds").observe(each, sink="log")

    if not seconds:
        assert not figures.counts()
        return
    found = figures.counts().histograms["k2_alert_send_duration_seconds", ("log",)]
    assert found.sum == pytest.approx(sum(seconds))
    for position, bound in enumerate(CALL_BUCKETS, start=1):
        assert sum(found.counts[:position]) == sum(each <= bound for each in seconds)
    assert sum(found.counts) == len(seconds)


def test_a_timer_observes_what_fails_too() -> None:
    figures = Figures()
    with pytest.raises(ZeroDivisionError), figures.histogram("k2_alert_send_duration_seconds").time(sink="log"):
        _ = 1 / 0

    assert sum(figures.counts().histograms["k2_alert_send_duration_seconds", ("log",)].counts) == 1


def test_what_is_taken_is_gone_and_what_is_added_is_there() -> None:
    figures = Figures()
    figures.counter("k2_retried_calls_total").add(2, operation="o", outcome="x")
    figures.histogram("k2_alert_send_duration_seconds").observe(0.2, sink="log")
    taken = figures.taken()

    assert not figures.counts()
    assert taken
    figures.add(taken)
    figures.add(taken)
    assert figures.counts().counters == {("k2_retried_calls_total", ("o", "x")): 4}
    assert sum(figures.counts().histograms["k2_alert_send_duration_seconds", ("log",)].counts) == 2


def test_figures_are_copies() -> None:
    figures = Figures()
    figures.histogram("k2_alert_send_duration_seconds").observe(0.2, sink="log")
    figures.counts().histograms["k2_alert_send_duration_seconds", ("log",)].counts[0] = 99

    assert sum(figures.counts().histograms["k2_alert_send_duration_seconds", ("log",)].counts) == 1


def test_threads_lose_no_count() -> None:
    figures = Figures()

    def count(_: int) -> None:
        figures.counter("k2_retried_calls_total").add(operation="o", outcome="x")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(2_000)))

    assert figures.counts() == Counts(counters={("k2_retried_calls_total", ("o", "x")): 2_000})


def test_histograms_add_up() -> None:
    assert Histogram([1, 0], 1.5) + Histogram([2, 3], 0.5) == Histogram([3, 3], 2.0)
