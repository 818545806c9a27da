import ast
from typing import Any

import pytest
from prometheus_client.utils import INF
from repository import REPOSITORY

from k2_market.plans.run_limits import MAX_RUNTIME_SECONDS
from k2_resources.alerts.sink import TIMEOUT_SECONDS
from k2_resources.metrics.registry import (
    CALL_BUCKETS,
    CONSTANT_LABELS,
    METRICS,
    Kind,
    Metric,
    MetricError,
    Source,
    metric,
    registered,
)

PACKAGES = ("k2_market", "k2_resources", "k2_assets", "k2_sensors", "k2_cli")
MAY_GROW_NO_FURTHER = {
    "exchange", "asset_class", "feed", "table", "asset", "check", "status", "dagster_job", "partition", "instigator",
    "daemon", "sink", "outcome", "operation", "part", "version", "path",
}  # fmt: skip


def declared(**changes: Any) -> Metric:
    fields: dict[str, Any] = {
        "name": "k2_things_total",
        "help": "Things.",
        "kind": Kind.COUNTER,
        "component": "test",
        "source": Source.COUNTED,
        "labels": ("feed",),
    }
    return Metric(**{**fields, **changes})


def test_there_are_at_least_forty_metrics_with_names_of_ours() -> None:
    assert len(METRICS) >= 40
    assert all(name.startswith("k2_") and name == each.name for name, each in METRICS.items())


def test_every_metric_has_a_sentence_of_help_and_a_component() -> None:
    assert all(each.help.endswith(".") or ":" in each.help or "," in each.help for each in METRICS.values())
    assert all(each.component for each in METRICS.values())


def test_labels_are_of_low_cardinality() -> None:
    assert {label for each in METRICS.values() for label in each.labels} <= MAY_GROW_NO_FURTHER
    assert not set(CONSTANT_LABELS) & MAY_GROW_NO_FURTHER


def test_the_buckets_of_a_histogram_reach_the_longest_time_that_it_can_measure() -> None:
    longest = {"k2_alert_send_duration_seconds": TIMEOUT_SECONDS}
    histograms = [each for each in METRICS.values() if each.kind is Kind.HISTOGRAM]

    assert len(histograms) >= 8
    for each in histograms:
        assert each.buckets[-1] >= longest.get(each.name, MAX_RUNTIME_SECONDS), each.name
        assert list(each.buckets) == sorted(set(each.buckets))
        assert INF not in each.buckets


def test_calls_have_the_seeds_buckets() -> None:
    assert CALL_BUCKETS[:11] == (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


def test_a_metric_declared_twice_is_refused() -> None:
    with pytest.raises(MetricError, match="k2_things_total is declared twice"):
        registered([declared(), declared(help="Others.")])


def test_registered_metrics_are_found_by_name() -> None:
    assert registered([declared()]) == {"k2_things_total": declared()}


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "things_total"},
        {"name": "k2_Things_total"},
        {"name": "k2_things"},
        {"name": "k2_things_total", "kind": Kind.GAUGE},
        {"kind": Kind.HISTOGRAM, "name": "k2_things_seconds"},
        {"kind": Kind.HISTOGRAM, "name": "k2_things_seconds", "buckets": (2.0, 1.0)},
        {"buckets": (1.0,)},
        {"labels": ("symbol",)},
        {"labels": ("feed", "feed")},
        {"labels": ("environment",)},
    ],
)
def test_a_wrong_declaration_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(MetricError):
        declared(**changes)


def test_a_metric_is_had_by_name_and_kind_only() -> None:
    assert metric("k2_table_rows", Kind.GAUGE) is METRICS["k2_table_rows"]
    with pytest.raises(MetricError, match="k2_table_rows is a gauge, not a counter"):
        metric("k2_table_rows", Kind.COUNTER)
    with pytest.raises(MetricError, match="k2_no_such is not declared"):
        metric("k2_no_such", Kind.GAUGE)


def test_prometheus_is_spoken_by_the_exporters_page_alone() -> None:
    speakers = set()
    for package in PACKAGES:
        for path in (REPOSITORY / package).rglob("*.py"):
            imported = {
                name
                for node in ast.walk(ast.parse(path.read_text()))
                for name in (
                    [each.name for each in node.names]
                    if isinstance(node, ast.Import)
                    else [node.module or ""]
                    if isinstance(node, ast.ImportFrom)
                    else []
                )
            }
            if any(name.split(".")[0] == "prometheus_client" for name in imported):
                speakers.add(path.relative_to(REPOSITORY).as_posix())

    assert speakers <= {"k2_resources/exporter/page.py", "k2_platform/metrics_exporter.py"}


def test_every_metric_asked_for_is_declared_and_every_declared_one_is_given_figures_somewhere() -> None:
    asked_for: set[str] = set()
    named: set[str] = set()
    for package in PACKAGES:
        for path in (REPOSITORY / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    named.add(node.value)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute) and node.args:
                    function = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                    first = node.args[0]
                    if function in ("counter", "gauge", "histogram") and isinstance(first, ast.Constant):
                        asked_for.add(str(first.value))

    assert asked_for <= set(METRICS)
    assert set(METRICS) <= named
