"""Three simulated days, from the producer to bars, by the daemon's own doing: what is left behind of them."""

import json

import pytest
from prometheus_client.parser import text_string_to_metric_families
from running_stack import RunningStack, eventually
from simulated_days import SimulatedDays

from k2_resources.metrics.registry import METRICS

pytestmark = pytest.mark.timeout(900)

FOUND_BY = {
    "gaps": ("sim/raw_trades", "sequence_gaps warns", "missing"),
    "duplicates": ("sim/raw_trades", "duplicate_messages warns", "duplicates"),
    "corrupt": ("sim/raw_trades", "dead_letters warns", "dead_letters"),
    "negative-price": ("sim/trades", "prices_positive warns", "nonpositive"),
}
"""For each planted fault the asset, the words of the alert, and the number that counts the fault."""


def test_every_message_is_a_row_and_every_day_has_bars(stack: RunningStack, simulated: SimulatedDays) -> None:
    statement = (
        "SELECT (SELECT count(*) FROM sim.raw_trades) AS rows, (SELECT count(DISTINCT trade_date) FROM sim.ohlcv_1d) "
        "AS days"
    )
    (found,) = json.loads(stack.k2("sql", statement, "--format", "json"))
    more, fewer = simulated.planted["duplicates"] + simulated.planted["corrupt"], simulated.planted["gaps"]
    assert found == {"rows": 3 * 3_000 + more - fewer, "days": 3}


def test_the_sensors_started_every_run(stack: RunningStack) -> None:
    runs = [run for run in stack.runs() if "dagster/backfill" not in run.tags]
    assert {run.job for run in runs} == {"sim_ingest", "sim_build"}
    started_by = {
        run.run_id: run.tags.get("dagster/sensor_name", run.tags.get("dagster/schedule_name")) for run in runs
    }
    assert None not in started_by.values(), started_by
    assert {run.status for run in runs} == {"SUCCESS"}


def test_each_planted_fault_is_alerted_of_once_with_its_number_and_a_link_to_the_run(
    stack: RunningStack, simulated: SimulatedDays
) -> None:
    expected = {f"{asset} {simulated.faulty}: {words}" for asset, words, _ in FOUND_BY.values()}
    eventually(lambda: expected <= set(stack.webhook.titles), f"alerts {expected}")
    assert sorted(stack.webhook.titles) == sorted(expected)
    run_ids = {run.run_id for run in stack.runs()}
    for fault, (asset, words, number) in FOUND_BY.items():
        (alert,) = [post for post in stack.webhook.taken if f"{asset} {simulated.faulty}: {words}" in post["text"]]
        text = json.dumps(alert)
        assert f"{number}: *{simulated.planted[fault]}*" in text
        assert any(f"{stack.ui}/runs/{run_id}" in text for run_id in run_ids)


def test_a_trades_correlation_id_is_in_the_lines_of_its_producer_its_run_and_its_commit(
    stack: RunningStack, simulated: SimulatedDays
) -> None:
    statement = (
        "SELECT correlation_id, kafka_partition, kafka_offset FROM sim.raw_trades WHERE trade_date = $day LIMIT 1"
    )
    (trade,) = json.loads(stack.k2("sql", statement, "--param", f"day={simulated.days[1]}", "--format", "json"))
    lines = [line for line in stack.log_lines() if trade["correlation_id"] in json.dumps(line)]

    (produced,) = [line for line in lines if line["message"] == "produce completed"]
    assert (produced["component"], produced["correlation_id"]) == ("producer", trade["correlation_id"])
    (committed,) = [line for line in lines if line["message"] == "raw rows committed"]
    (run_line,) = [line for line in lines if line["message"] == "ingest run completed"]
    assert run_line["run_id"] == run_line["correlation_id"] == committed["run_id"] == committed["correlation_id"]
    assert committed["snapshot_id"]
    assert committed["batch_id"]
    assert run_line["run_id"] in {run.run_id for run in stack.runs()}


def test_every_declared_metric_is_served_with_figures(stack: RunningStack) -> None:
    # No run has failed, and no run may be under way while we look.
    without_figures = {"k2_run_last_failure_timestamp_seconds", "k2_runs_in_flight"}

    def missing() -> set[str]:
        families = {family.name: family for family in text_string_to_metric_families(stack.metrics_page())}
        absent = {name for name in METRICS if name.removesuffix("_total") not in families}
        assert not absent, f"not served: {absent}"
        empty = {name for name in METRICS if not families[name.removesuffix("_total")].samples}
        return empty - without_figures

    # A part that takes its time is left out of a page and is in the next; counts are kept every five seconds.
    eventually(lambda: not missing(), f"figures of every metric; missing are {missing()}")


@pytest.mark.parametrize("table", ["ohlcv_1m", "ohlcv_5m", "ohlcv_15m", "ohlcv_30m", "ohlcv_1h", "ohlcv_1d"])
def test_a_days_bars_carry_their_chart(stack: RunningStack, simulated: SimulatedDays, table: str) -> None:
    metadata = stack.latest_metadata(["sim", table], simulated.days[2])
    assert "](data:image/png;base64," in metadata["chart"]
