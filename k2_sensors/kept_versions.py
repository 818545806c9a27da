"""What days were last made as, kept from tick to tick: a tick reads what was reported since the one before it (#039).

Dagster's records stay the only truth. Everything is read anew every two minutes, which tells of what reading on does
not: events that went with their run or their asset, and one that another writer's later event overtook.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from k2_assets.partitions import day_of
from k2_assets.raw_trades import RAW_TRADES
from k2_assets.run_scope import raw_versions, versions_made_from
from k2_market.feed import Feed
from k2_sensors.run_records import last_table

KEPT_FOR = timedelta(minutes=2)
_PAGE = 500


@dataclass
class KeptVersions:
    """The version of each day of an asset.

    Attributes:
        asset: Whose days.
        all_of: Reads the versions of all days.
        version_of: The version that a materialization gives its day; None takes the day's away.
    """

    asset: dg.AssetKey
    all_of: Callable[[dg.DagsterInstance, dg.AssetKey], Mapping[date, str]]
    version_of: Callable[[dg.EventLogRecord], str | None]
    _versions: dict[date, int] = field(default_factory=dict)
    _read_up_to: int = 0
    _all_read_at: datetime | None = None

    def read(self, instance: dg.DagsterInstance, now: datetime) -> Mapping[date, int]:
        """The versions by what Dagster has recorded until now.

        Args:
            instance: Dagster's records; the same at every call.
            now: The time.
        """
        if self._all_read_at is None or not timedelta(0) <= now - self._all_read_at < KEPT_FOR:
            self._read_all(instance, now)
        else:
            self._read_on(instance)
        return dict(self._versions)

    def _read_all(self, instance: dg.DagsterInstance, now: datetime) -> None:
        latest = instance.fetch_materializations(self.asset, limit=1).records
        self._read_up_to = latest[0].storage_id if latest else 0
        self._versions = {day: int(version) for day, version in self.all_of(instance, self.asset).items()}
        self._all_read_at = now

    def _read_on(self, instance: dg.DagsterInstance) -> None:
        for record in self._newer(instance):
            self._read_up_to = record.storage_id
            if record.partition_key is None:
                continue
            day, version = day_of(record.partition_key), self.version_of(record)
            self._versions.pop(day, None)
            if version is not None:
                self._versions[day] = int(version)

    def _newer(self, instance: dg.DagsterInstance) -> Iterator[dg.EventLogRecord]:
        newer = dg.AssetRecordsFilter(asset_key=self.asset, after_storage_id=self._read_up_to)
        cursor, more = None, True
        while more:
            page = instance.fetch_materializations(newer, limit=_PAGE, cursor=cursor, ascending=True)
            yield from page.records
            cursor, more = page.cursor, page.has_more


@dataclass(frozen=True)
class BuildVersions:
    """What a feed's days are built from.

    Attributes:
        raw: For each day the number of its latest raw materialization.
        built: For each day that of the raw rows which its last table was made from.
    """

    raw: KeptVersions
    built: KeptVersions

    @classmethod
    def of(cls, feed: Feed) -> "BuildVersions":
        """Those of a feed, nothing read yet."""
        return cls(
            KeptVersions(dg.AssetKey([feed.name, RAW_TRADES]), raw_versions, _own_number),
            KeptVersions(last_table(feed), versions_made_from, _made_from),
        )


def _own_number(record: dg.EventLogRecord) -> str:
    return str(record.storage_id)


def _made_from(record: dg.EventLogRecord) -> str | None:
    made = record.asset_materialization
    return None if made is None else (made.tags or {}).get(DATA_VERSION_TAG)
