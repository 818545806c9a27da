"""Puts Dagster's definitions together: feeds, resources, assets, checks, jobs, schedules and sensors.

``build_defs`` returns a fresh set of definitions; tests and commands call it with their own settings, feeds or
resources. What Dagster loads is in ``code_location``.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

# Partitioned checks are a preview, owners of jobs and backfill policies in beta, pinned with Dagster's exact version.
for _stage in (dg.PreviewWarning, dg.BetaWarning):
    warnings.filterwarnings("ignore", category=_stage)

from k2_assets.asset_facts import placed  # noqa: E402
from k2_assets.feed_family import IN_PROCESS, FeedFamily, feed_family  # noqa: E402
from k2_assets.records.partitions import Closures  # noqa: E402
from k2_assets.schedules import today_schedule  # noqa: E402
from k2_market.feeds.feed import Feed, RefusedFile, load_feeds  # noqa: E402
from k2_market.feeds.trading_calendar import with_calendars  # noqa: E402
from k2_market.kinds.raw_kind import RawKind  # noqa: E402
from k2_market.kinds.shipped import KINDS, kinds_of  # noqa: E402
from k2_resources.alerts.sink import AlertSinkResource  # noqa: E402
from k2_resources.dagster.resources import IcebergCatalogResource, KafkaResource, SchemaRegistryResource  # noqa: E402
from k2_resources.exporter.disk_use import data_paths  # noqa: E402
from k2_resources.settings import Settings  # noqa: E402
from k2_sensors.alerts import build_alert_sensors  # noqa: E402
from k2_sensors.awaited_day_sensor import awaited_day_sensor  # noqa: E402
from k2_sensors.feed_files_sensor import build_feed_files_sensor  # noqa: E402
from k2_sensors.ingest_alarms import build_ingest_alarm_sensor  # noqa: E402
from k2_sensors.kafka_sensor import kafka_sensor  # noqa: E402
from k2_sensors.run_watch import run_watch_sensor  # noqa: E402
from k2_sensors.session_close_sensors import closed_day_sensor, maintenance_sensor  # noqa: E402
from k2_sensors.stale_day_sensor import stale_day_sensor  # noqa: E402
from k2_sensors.unchecked_day_sensor import unchecked_day_sensor  # noqa: E402

SENSORS_OF_FAMILY = (kafka_sensor, unchecked_day_sensor, maintenance_sensor, awaited_day_sensor)
"""Sensors that start the runs of any family."""

SENSORS_OF_BUILDS = (stale_day_sensor, closed_day_sensor)
"""Sensors that start the builds of a family that derives tables, beside the schedule of its open days."""


def build_defs(
    *,
    settings: Settings | None = None,
    feeds: Mapping[str, Feed] | None = None,
    kinds: Sequence[RawKind] = KINDS,
    refused: Sequence[RefusedFile] = (),
    resources: Mapping[str, dg.ConfigurableResource[Any]] | None = None,
    automated: bool = True,
    closures: Mapping[str, Closures] | None = None,
) -> dg.Definitions:
    """Return everything K2 gives to Dagster.

    Args:
        settings: Settings to use in place of the environment's.
        feeds: Feeds to use in place of those found in the settings' directories. Their calendars must be there.
        kinds: What is ingested of each feed, as far as it has topics for them.
        refused: Files that were refused when ``feeds`` were read; they harm none of these, and people are told.
        resources: Clients to use in place of the real ones, by name: ``kafka``, ``iceberg``, ``registry``,
            ``alert_sink``.
        closures: Closed dates of feeds, by name; those of others are looked up.
        automated: Whether there are sensors and schedules; without them runs are started by hand alone.
    """
    settings = settings or Settings.load()
    if feeds is None:
        feeds = declared = with_calendars(load_feeds(settings.feed_directories))
        refused = declared.refused
    families = [
        feed_family(feed, kind, (closures or {}).get(name))
        for name, feed in feeds.items()
        for kind in kinds_of(feed, kinds)
    ]
    sensors = _sensors(settings, families, feeds, kinds, refused) if automated else []
    return dg.Definitions(
        assets=[
            *(family.topic for family in families),
            *placed((asset for family in families for asset in family.assets), settings.iceberg_warehouse),
        ],
        asset_checks=[check for family in families for check in family.checks],
        jobs=[job for family in families for job in family.jobs],
        schedules=[today_schedule(family) for family in families if family.build_job] if automated else [],
        sensors=sensors,
        resources={**clients(settings), **(resources or {})},
        executor=IN_PROCESS,
    )


def _sensors(
    settings: Settings,
    families: Sequence[FeedFamily],
    feeds: Mapping[str, Feed],
    kinds: Sequence[RawKind],
    refused: Sequence[RefusedFile],
) -> list[dg.SensorDefinition]:
    return [
        *(make(family) for family in families for make in SENSORS_OF_FAMILY),
        *(make(family) for family in families if family.build_job for make in SENSORS_OF_BUILDS),
        run_watch_sensor,
        *build_alert_sensors(),
        build_ingest_alarm_sensor(
            feeds.values(),
            kinds,
            refused=refused,
            feed_directories=settings.feed_directories,
            data_paths=data_paths(settings),
        ),
        build_feed_files_sensor(refused, settings.feed_directories),
    ]


def clients(settings: Settings) -> dict[str, dg.ConfigurableResource[Any]]:
    """Make the clients that the settings name."""
    return {
        "kafka": KafkaResource(bootstrap_servers=_by_name("K2_KAFKA_BOOTSTRAP", settings.bootstrap_servers)),
        "iceberg": IcebergCatalogResource(
            uri=_by_name("K2_CATALOG_URI", settings.iceberg_catalog_uri),
            warehouse=_by_name("K2_WAREHOUSE", settings.iceberg_warehouse),
        ),
        "registry": SchemaRegistryResource(url=_by_name("K2_REGISTRY_URL", settings.schema_registry_url)),
        "alert_sink": AlertSinkResource(
            webhook=None if settings.alert_webhook is None else dg.EnvVar("K2_ALERT_WEBHOOK"),
            dagster_url=f"http://127.0.0.1:{settings.dagster_port}",
        ),
    }


def _by_name(variable: str, value: str) -> Any:
    """Return a resource's field: by the name of the environment variable that holds its value, where one does.

    Dagster shows fields to whoever asks, keeps them in its records, and of a variable shows and keeps the name alone.
    What an operator has set may hold a password; what is derived where nothing is set holds none.
    """
    # Settings are read whatever the case of their variables.
    named = [name for name, held in os.environ.items() if name.upper() == variable and held == value]
    return dg.EnvVar(named[0]) if named else value
