"""What came of a simulated schedule, held against what the broker acknowledged; plain sets, and none of K2's own code.

The table's files are read through pyiceberg and the ledger is read as JSON.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from simulated_broker import Entry, Fate, SimulatedBroker
from simulated_files import SimulatedFiles
from simulated_messages import Message

_PLACE = ["kafka_topic_id", "kafka_partition", "kafka_offset"]
_COLUMNS = [*_PLACE, "trade_id", "reject_reason", "payload", "kafka_key"]

Place = tuple[str, int, int]
"""Topic id, partition, offset."""


@dataclass(frozen=True)
class Account:
    """A table's ledger, offset by offset."""

    covered: frozenset[Place]
    lost: frozenset[Place]
    truncated: frozenset[Place]
    set_aside: frozenset[Place]
    messages: int
    holes: int
    dead_letters: int
    batch_id: str

    @classmethod
    def of(cls, metadata: TableMetadata) -> "Account":
        """The ledger that a table's metadata carries."""
        content = json.loads(metadata.properties.get("k2.ledger", '{"topics":{}}'))
        spans = {
            kind: frozenset(
                (topic_id, int(partition), offset)
                for topic_id, topic in content["topics"].items()
                for partition, each in topic.get(kind, {}).items()
                for start, end in each
                for offset in range(start, end)
            )
            for kind in ("partitions", "lost", "truncated", "set_aside")
        }
        return cls(
            covered=spans["partitions"],
            lost=spans["lost"],
            truncated=spans["truncated"],
            set_aside=spans["set_aside"],
            messages=content.get("messages", 0),
            holes=content.get("holes", 0),
            dead_letters=content.get("dead_letters", 0),
            batch_id=content.get("batch_id", ""),
        )


class SimulatedTruth:
    """What was sent, by place, and where the broker has it."""

    def __init__(self, broker: SimulatedBroker, sent: dict[int, Message]) -> None:
        self._broker = broker
        self._sent = sent

    def messages(self) -> Iterator[Place]:
        """Places at which a committed message was acknowledged."""
        return (place for place, entries in self._broker.acked.items() if _committed(entries))

    def readable(self) -> set[Place]:
        """Places of the topic as it is now that a reader can still read, holes among them."""
        topic = self._broker.topic
        assert topic is not None
        return {
            (topic.topic_id, partition, offset)
            for partition, log in enumerate(topic.logs)
            for offset in range(log.low, log.stable_end)
        }

    def is_hole(self, place: Place) -> bool:
        """Whether a place has, or once had, no message."""
        return any(entry.fate is not Fate.COMMITTED for entry in self._broker.acked.get(place, ()))

    def does_harm(self, place: Place) -> bool:
        """Whether a message at a place fails, hangs or kills whatever has to do with it."""
        return any(entry.harm is not None for entry in self._broker.acked.get(place, ()))

    def says(self, place: Place, row: dict[str, Any]) -> bool:
        """Whether a row says what was sent to its place."""
        return any(self._is(entry, row) for entry in _committed(self._broker.acked.get(place, ())))

    def _is(self, entry: Entry, row: dict[str, Any]) -> bool:
        message = self._sent[id(entry)]
        if message.trade_id is not None:
            return bool(row["trade_id"] == message.trade_id and row["reject_reason"] is None)
        return bool(row["reject_reason"] and row["payload"] == message.value and row["kafka_key"] == entry.key)


def problems(
    broker: SimulatedBroker, sent: dict[int, Message], files: SimulatedFiles, committed: list[TableMetadata]
) -> list[str]:
    """All that is wrong, in words; nothing if the table is what it should be.

    Args:
        broker: What was acknowledged, removed and cut off.
        sent: The message behind each entry, by ``id``.
        files: The warehouse.
        committed: The table's metadata after every commit.
    """
    truth = SimulatedTruth(broker, sent)
    if not committed:
        return [f"nothing was ever committed of {len(truth.readable())} offsets"] if truth.readable() else []
    account = Account.of(committed[-1])
    try:
        tables = list(data_files(committed[-1], files))
    except FileNotFoundError as missing:
        return [f"the table can't be read: no file {missing}"]
    rows = [row for table in tables for row in table.select(_COLUMNS).to_pylist()]
    places = [(row["kafka_topic_id"], row["kafka_partition"], row["kafka_offset"]) for row in rows]
    return [
        *_about_rows(truth, account, list(zip(places, rows, strict=True))),
        *_about_account(truth, broker, account, places, sum(row["reject_reason"] is not None for row in rows)),
        *_about_order(tables),
        *_about_commits(committed, account),
    ]


def unreported_days(committed: list[TableMetadata], reported: Mapping[str, str]) -> Iterator[str]:
    """Days that have newer rows than were reported as materialized, so that nothing would be checked of them.

    Args:
        committed: The table's metadata after every commit.
        reported: For each day the version that was last reported of it.
    """
    text = committed[-1].properties.get("k2.day-versions", "{}") if committed else "{}"
    for day, version in json.loads(text).items():
        if int(reported.get(day, "0")) < version:
            yield f"{day} got rows by commit {version} and was not reported since"


def _about_rows(truth: SimulatedTruth, account: Account, rows: list[tuple[Place, dict[str, Any]]]) -> Iterator[str]:
    times = Counter(place for place, _ in rows)
    yield from _if_any("doubled", {place for place, count in times.items() if count > 1})
    yield from _if_any("rows that say something else than was sent", {p for p, row in rows if not truth.says(p, row)})
    yield from _if_any("rows outside the ledger", set(times) - account.covered)
    lost = {place for place in account.covered - set(times) if not truth.is_hole(place)}
    yield from _if_any("lost though the ledger covers them", lost)
    aside = {place for place, row in rows if (row["reject_reason"] or "").startswith("set aside after")}
    yield from _if_any("rows set aside that the ledger does not tell of", aside - account.set_aside)
    yield from _if_any("told to be set aside and decoded", (account.set_aside & set(times)) - aside)
    # Only the message behind a hole tells that there is none in it: a hole before a harmful message may look like it.
    needless = {place for place in account.set_aside if not (truth.does_harm(place) or truth.is_hole(place))}
    yield from _if_any("set aside without need", needless)


def _about_account(
    truth: SimulatedTruth, broker: SimulatedBroker, account: Account, places: list[Place], dead_letters: int
) -> Iterator[str]:
    assert broker.topic is not None
    current = {place for place in account.covered if place[0] == broker.topic.topic_id}
    ends = [log.high for log in broker.topic.logs]
    unreached = {place for place in current if place[1] >= len(ends) or place[2] >= ends[place[1]]}
    yield from _if_any("not said to be truncated", unreached - account.truncated)
    yield from _if_any("said to be truncated and never were", account.truncated - broker.truncated)
    yield from _if_any("said to be truncated and not covered", account.truncated - account.covered)
    if not unreached:
        yield from _if_any("readable and not ingested", truth.readable() - account.covered - account.set_aside)
        removed = {place for place in broker.removed if place[0] == broker.topic.topic_id}
        yield from _if_any(
            "removed by retention, not ingested and not said to be lost",
            removed - current - account.lost - account.set_aside,
        )
    yield from _if_any("said to be lost and never removed", account.lost - broker.removed)
    yield from _if_any("said to be lost and settled", account.lost & (account.covered | account.set_aside))
    counted = (account.messages, account.holes, account.dead_letters)
    found = (len(places), len(account.covered) - len(places), dead_letters)
    if counted != found:
        yield f"the ledger counts (messages, holes, dead letters) {counted}, the table has {found}"


def _about_order(tables: Iterable[pa.Table]) -> Iterator[str]:
    for table in tables:
        offsets: dict[tuple[str, int], list[int]] = defaultdict(list)
        for row in table.select(["kafka_topic_id", "kafka_partition", "kafka_offset"]).to_pylist():
            offsets[row["kafka_topic_id"], row["kafka_partition"]].append(row["kafka_offset"])
        for (_, partition), each in offsets.items():
            if any(later <= earlier for earlier, later in pairwise(each)):
                yield f"rows of partition {partition} out of the broker's order: {each}"


def _about_commits(committed: list[TableMetadata], account: Account) -> Iterator[str]:
    """Each commit of ranges adds what it says; together they are the ledger; the ledger never takes anything back."""
    covered: set[Place] = set()
    before = Account(frozenset(), frozenset(), frozenset(), frozenset(), 0, 0, 0, "")
    for earlier, metadata in pairwise([committed[0], *committed]):
        after = Account.of(metadata)
        new = [
            each for each in metadata.snapshots if earlier is metadata or not earlier.snapshot_by_id(each.snapshot_id)
        ]
        for snapshot in new:
            claimed = _ranges(snapshot)
            yield from _if_any("committed twice", claimed & covered)
            covered |= claimed
            yield from _about_snapshot(snapshot, after)
        if after.batch_id != before.batch_id and len(new) != 1:
            yield f"batch {after.batch_id} came with {len(new)} snapshots"
        yield from _if_any("gone from the ledger", before.covered - after.covered)
        before = after
    yield from _if_any("in the ledger and in no commit", account.covered - covered)
    yield from _if_any("committed and not in the ledger", covered - account.covered)


def _about_snapshot(snapshot: Snapshot, after: Account) -> Iterator[str]:
    assert snapshot.summary is not None
    said = snapshot.summary.additional_properties
    added, total = int(said.get("added-records", 0)), int(said.get("total-records", 0))
    if "k2.compacted-days" in said:
        if added != int(said.get("deleted-records", -1)):
            yield f"compaction {said.get('k2.batch-id')} added {added} rows for {said.get('deleted-records')}"
    elif added != int(said.get("k2.messages", -1)):
        yield f"batch {said.get('k2.batch-id')} added {added} rows and says {said.get('k2.messages')}"
    if said.get("k2.batch-id") != after.batch_id:
        yield f"snapshot of batch {said.get('k2.batch-id')} came with a ledger of batch {after.batch_id}"
    if total != after.messages:
        yield f"{total} rows after batch {after.batch_id}, the ledger counts {after.messages}"


def data_files(metadata: TableMetadata, files: SimulatedFiles) -> Iterator[pa.Table]:
    """The rows of each file of the current snapshot; files of the other snapshots must be there too."""
    entries: dict[str, list[str]] = {}
    for snapshot in sorted(metadata.snapshots, key=lambda each: each.snapshot_id == metadata.current_snapshot_id):
        current = [manifest.manifest_path for manifest in snapshot.manifests(files)]
        for manifest in snapshot.manifests(files):
            if manifest.manifest_path not in entries:
                found = manifest.fetch_manifest_entry(files)
                entries[manifest.manifest_path] = [entry.data_file.file_path for entry in found]
    for location in {location for each in entries.values() for location in each}:
        if location not in files.content:
            raise FileNotFoundError(location)
    for path in current if metadata.snapshots else ():
        for location in entries[path]:
            content = files.content[location]
            yield content if isinstance(content, pa.Table) else pq.read_table(pa.BufferReader(content))


def _ranges(snapshot: Snapshot) -> set[Place]:
    assert snapshot.summary is not None
    found = re.findall(r"(\S+)/(\d+)\[(\d+),(\d+)\)", snapshot.summary.additional_properties.get("k2.ranges", ""))
    return {
        (topic, int(number), offset) for topic, number, start, end in found for offset in range(int(start), int(end))
    }


def _committed(entries: Iterable[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.fate is Fate.COMMITTED]


def _if_any(what: str, places: Iterable[Place]) -> Iterator[str]:
    found = sorted(places)
    if found:
        shown = ", ".join(f"{topic[:4]}/{partition}@{offset}" for topic, partition, offset in found[:8])
        yield f"{len(found)} {what}: {shown}"
