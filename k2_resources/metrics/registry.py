"""Declares every metric of the platform, once (#007).

A metric's figures come from durable facts, read when Prometheus asks (``*_facts.py``), or are counted where
something happens and kept in a file (``event_counts.py``); either way a restart loses nothing. All have the labels
``service``, ``environment`` and ``component`` besides their own. No label may grow with the market: never a symbol.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from k2_market.errors import K2Error

CALL_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds in seconds for one call to a service: those of the seed (#007), and up to a call's time limit."""
WORK_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""Upper bounds in seconds for a run and for its parts, up to the longest time that a run may take."""

CONSTANT_LABELS = ("service", "environment", "component")
"""Labels of every metric: ``k2``, the environment of the settings, the component that declares it."""
SERVICE = "k2"

FEED = ("exchange", "asset_class", "feed")
TABLE = (*FEED, "table")
ASSET = (*FEED, "asset")
CHECK = (*ASSET, "check")
JOB = ("dagster_job",)
"""Not ``job``: Prometheus gives every series a label of that name, and renames ours."""


class MetricError(K2Error):
    """A metric was asked for, declared or labelled in a way that the registry does not know."""


class Kind(StrEnum):
    """Describes what a metric's figures mean to Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Source(StrEnum):
    """Names the source of a metric's figures; each but the last two is a part that can fail alone."""

    KAFKA = "kafka"
    """Watermarks and record timestamps, held against the ledger."""
    TABLES = "tables"
    """Iceberg metadata, the ledger among it."""
    MATERIALIZATIONS = "materializations"
    """Materialization events of Dagster's event log."""
    CHECKS = "checks"
    """Asset check evaluations of Dagster's event log."""
    RUNS = "runs"
    """Dagster's run storage."""
    AUTOMATION = "automation"
    """Ticks of sensors and schedules, heartbeats of daemons."""
    DISKS = "disks"
    """The disks that data lies on."""
    COUNTED = "counted"
    """Counted by the processes where it happens, kept in the counts file."""
    EXPORTER = "exporter"
    """The exporter, about itself."""


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: ``k2_…`` with the unit at its end; a counter's ends in ``_total``.
        help: One sentence for the reader of a dashboard.
        kind: Counter, gauge or histogram.
        component: Which part of the platform it speaks of.
        source: Where its figures come from.
        labels: Its own labels, besides the constant ones.
        buckets: A histogram's upper bounds, in seconds, without the infinite one.
    """

    name: str
    help: str
    kind: Kind
    component: str
    source: Source
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if (
            not self.name.startswith("k2_")
            or not self.name.replace("_", "").isalnum()
            or self.name.lower() != self.name
        ):
            raise MetricError(f"metric {self.name!r}: expected a name like k2_table_rows")
        if (self.kind is Kind.COUNTER) != self.name.endswith("_total"):
            raise MetricError(f"metric {self.name}: a counter's name, and no other, ends in _total")
        if (self.kind is Kind.HISTOGRAM) != bool(self.buckets) or list(self.buckets) != sorted(set(self.buckets)):
            raise MetricError(f"metric {self.name}: a histogram, and no other, has buckets, in rising order")
        if "symbol" in self.labels or len({*self.labels, *CONSTANT_LABELS}) != len(self.labels) + len(CONSTANT_LABELS):
            raise MetricError(f"metric {self.name}: labels {self.labels} repeat one another or hold a symbol")

    def label_values(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Return the values of the metric's own labels, in their order.

        Raises:
            MetricError: A label is missing, or is none of the metric's.
        """
        if labels.keys() != set(self.labels):
            raise MetricError(f"metric {self.name}: expected labels {sorted(self.labels)}, found {sorted(labels)}")
        return tuple(labels[name] for name in self.labels)


def registered(metrics: Iterable[Metric]) -> Mapping[str, Metric]:
    """Return the metrics by name.

    Raises:
        MetricError: Two have the same name.
    """
    by_name: dict[str, Metric] = {}
    for metric in metrics:
        if metric.name in by_name:
            raise MetricError(f"metric {metric.name} is declared twice")
        by_name[metric.name] = metric
    return by_name


def metric(name: str, kind: Kind) -> Metric:
    """Return the declared metric of a name.

    Raises:
        MetricError: No metric has the name, or it is of another kind.
    """
    found = METRICS.get(name)
    if found is None:
        raise MetricError(f"metric {name} is not declared; declare it in {__name__}")
    if found.kind is not kind:
        raise MetricError(f"metric {name} is a {found.kind}, not a {kind}")
    return found


def _counters(component: str, source: Source, labels: tuple[str, ...], **helps: str) -> list[Metric]:
    return [Metric(name, text, Kind.COUNTER, component, source, labels) for name, text in helps.items()]


def _gauges(component: str, source: Source, labels: tuple[str, ...], **helps: str) -> list[Metric]:
    return [Metric(name, text, Kind.GAUGE, component, source, labels) for name, text in helps.items()]


def _histograms(
    component: str, source: Source, labels: tuple[str, ...], buckets: tuple[float, ...], **helps: str
) -> list[Metric]:
    return [Metric(name, text, Kind.HISTOGRAM, component, source, labels, buckets) for name, text in helps.items()]


_KAFKA = [
    *_gauges(
        "kafka",
        Source.KAFKA,
        (),
        k2_kafka_brokers="Brokers of the cluster that answer for it.",
    ),
    *_gauges(
        "kafka",
        Source.KAFKA,
        (*TABLE, "partition"),
        k2_topic_low_watermark="First offset that the broker still holds, by Kafka partition.",
        k2_topic_high_watermark="End of the log, by Kafka partition.",
        k2_topic_stable_end="Offset up to which committed messages may be read, by Kafka partition.",
    ),
    *_gauges(
        "kafka",
        Source.KAFKA,
        TABLE,
        k2_topic_partitions="Kafka partitions of the topic that feeds the table.",
        k2_topic_open_transaction_messages="Messages behind an open transaction, which nobody can read yet.",
        k2_topic_newest_record_timestamp_seconds="Exchange time of the newest record in the topic, Unix seconds.",
    ),
    *_gauges(
        "ingest",
        Source.KAFKA,
        (*TABLE, "partition"),
        k2_ingest_lag_messages="Messages that can be read and are not in the ledger, by Kafka partition.",
    ),
    *_gauges(
        "ingest",
        Source.KAFKA,
        TABLE,
        k2_ingest_lag_seconds="Exchange time from the oldest waiting message to the newest; 0 if none waits.",
        k2_ingest_removed_messages="Messages that retention removed before they were read, whether recorded or not.",
        k2_feed_silence_seconds="Open time of sessions since the newest record; 0 while the exchange is closed.",
    ),
]

_TABLES = [
    *_counters(
        "ingest",
        Source.TABLES,
        TABLE,
        k2_ingested_messages_total="Messages committed as rows of the raw table.",
        k2_ledger_holes_total="Offsets that held no message: aborted transactions, control records, compaction.",
        k2_dead_letters_total="Messages that would not decode; their bytes are kept.",
        k2_late_rows_total="Rows that came after their day's trades had been published.",
        k2_lost_messages_total="Messages that retention removed before they were read, as the ledger records them.",
    ),
    *_gauges(
        "ingest",
        Source.TABLES,
        TABLE,
        k2_ledger_ranges="Pieces that the ledger's offsets come in; one per Kafka partition when nothing waits.",
        k2_ledger_set_aside_offsets="Offsets whose runs failed again and again, set aside for a person.",
        k2_ledger_trusted="1 if the ledger can be read and fits the table's snapshots, else 0 (a rolled-back table).",
        k2_ledger_unaccounted_rows="Rows of the raw table less messages of its ledger; anything but 0 is wrong.",
    ),
    *_gauges(
        "storage",
        Source.TABLES,
        TABLE,
        k2_table_rows="Rows of the table's current snapshot.",
        k2_table_data_files="Data files of the table's current snapshot.",
        k2_table_bytes="Bytes in the data files of the table's current snapshot.",
        k2_table_snapshots="Snapshots that the table keeps.",
        k2_table_last_commit_timestamp_seconds="When the table was last committed to, Unix seconds.",
    ),
]

_MATERIALIZATIONS = [
    *_counters(
        "assets",
        Source.MATERIALIZATIONS,
        ASSET,
        k2_asset_materializations_total="Materializations of the asset, each of one trading day.",
    ),
    *_gauges(
        "assets",
        Source.MATERIALIZATIONS,
        ASSET,
        k2_asset_last_materialized_timestamp_seconds="When the asset was last materialized, Unix seconds.",
        k2_asset_freshness_seconds="Time since the asset was last materialized.",
        k2_asset_partitions_materialized="Trading days that have been materialized.",
        k2_asset_partitions_failed="Trading days whose last attempt failed.",
        k2_asset_newest_trade_date_timestamp_seconds="Newest day materialized: Unix seconds of its UTC midnight.",
    ),
    *_histograms(
        "ingest",
        Source.MATERIALIZATIONS,
        ASSET,
        WORK_BUCKETS,
        k2_ingest_read_duration_seconds="Time to read a run's messages from Kafka.",
        k2_ingest_decode_duration_seconds="Time to decode a run's messages.",
    ),
    *_histograms(
        "storage",
        Source.MATERIALIZATIONS,
        ASSET,
        WORK_BUCKETS,
        k2_iceberg_write_duration_seconds="Time to write data files.",
        k2_iceberg_commit_duration_seconds="Time from written data files to the catalog's answer.",
    ),
    *_histograms(
        "assets",
        Source.MATERIALIZATIONS,
        ASSET,
        WORK_BUCKETS,
        k2_build_duration_seconds="Time to make a day of trades or bars.",
    ),
]

_CHECKS = [
    *_counters(
        "quality",
        Source.CHECKS,
        (*CHECK, "status"),
        k2_check_evaluations_total="Evaluations of the check, by outcome: passed, warned, failed.",
    ),
    *_gauges(
        "quality",
        Source.CHECKS,
        (*CHECK, "status"),
        k2_check_partitions="Trading days by the check's latest outcome: passed, warned, failed.",
    ),
    *_gauges(
        "quality",
        Source.CHECKS,
        CHECK,
        k2_check_last_evaluated_timestamp_seconds="When the check was last evaluated, Unix seconds.",
    ),
    *_gauges(
        "quality",
        Source.CHECKS,
        ASSET,
        k2_missing_messages="Sequence numbers missing, over the latest findings of all days.",
        k2_sequence_gaps="Gaps in sequence numbers, over the latest findings of all days.",
        k2_duplicate_messages="Messages that repeat another, over the latest findings of all days.",
        k2_nonpositive_trades="Trades with a price of zero or less, over the latest findings of all days.",
        k2_trades_outside_session="Trades that set prices outside the session, over the latest findings of all days.",
    ),
]

_RUNS = [
    *_counters(
        "orchestration",
        Source.RUNS,
        (*JOB, "status"),
        k2_runs_total="Runs that have ended, by status: success, failure, canceled.",
    ),
    *_gauges(
        "orchestration",
        Source.RUNS,
        (*JOB, "status"),
        k2_runs_in_flight="Runs that have not ended, by status.",
    ),
    *_gauges(
        "orchestration",
        Source.RUNS,
        (),
        k2_run_queue_depth="Runs that wait in the queue.",
    ),
    *_gauges(
        "orchestration",
        Source.RUNS,
        JOB,
        k2_run_last_success_timestamp_seconds="When a run of the job last succeeded, Unix seconds.",
        k2_run_last_failure_timestamp_seconds="When a run of the job last failed, Unix seconds.",
    ),
    *_histograms(
        "orchestration",
        Source.RUNS,
        JOB,
        WORK_BUCKETS,
        k2_run_duration_seconds="Time from a run's start to its end.",
        k2_run_start_delay_seconds="Time from a run's request to its start.",
    ),
]

_AUTOMATION = [
    *_gauges(
        "orchestration",
        Source.AUTOMATION,
        ("instigator",),
        k2_instigator_running="1 if the sensor or schedule is switched on, else 0.",
        k2_instigator_last_tick_timestamp_seconds="When the sensor or schedule last ticked, Unix seconds.",
        k2_instigator_last_tick_failed="1 if the last tick failed, else 0.",
    ),
    *_gauges(
        "orchestration",
        Source.AUTOMATION,
        ("daemon",),
        k2_daemon_heartbeat_timestamp_seconds="When the daemon last gave a sign of life, Unix seconds.",
    ),
]

_DISKS = [
    *_gauges(
        "storage",
        Source.DISKS,
        ("path",),
        k2_disk_used_ratio="Share of the disk in use, from 0 to 1; what is kept back for root counts as used.",
        k2_disk_free_bytes="Bytes that are free on the disk.",
    ),
]

_COUNTED = [
    *_counters(
        "alerts",
        Source.COUNTED,
        ("sink", "outcome"),
        k2_alerts_total="Alerts handed to a sink, by outcome: sent, failed (and tried again).",
    ),
    *_histograms(
        "alerts",
        Source.COUNTED,
        ("sink",),
        CALL_BUCKETS,
        k2_alert_send_duration_seconds="Time that a sink took to accept an alert.",
    ),
    *_counters(
        "retry",
        Source.COUNTED,
        ("operation", "outcome"),
        k2_retried_calls_total="Calls under a retry policy, by how they ended: first_time, after_retries, …",
    ),
]

_EXPORTER = [
    *_counters(
        "exporter",
        Source.EXPORTER,
        ("part",),
        k2_exporter_scrape_errors_total="Scrapes in which the part had no figures to give, since the exporter started.",
    ),
    *_gauges(
        "exporter",
        Source.EXPORTER,
        ("part",),
        k2_exporter_part_up="1 if the part's figures are in this scrape, 0 if they could not be read.",
        k2_exporter_part_read_seconds="Time that the part's last reading took.",
    ),
    *_gauges(
        "exporter",
        Source.EXPORTER,
        ("version",),
        k2_build_info="1, labelled with K2's version.",
    ),
]

METRICS = registered(
    [*_KAFKA, *_TABLES, *_MATERIALIZATIONS, *_CHECKS, *_RUNS, *_AUTOMATION, *_DISKS, *_COUNTED, *_EXPORTER]
)
"""All metrics by name."""
