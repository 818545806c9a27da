"""Failures that others had in the field, played again on K2: each test bears the number of the public issue.

They are of one kind: the proof of what was committed lay beside the table, and the two came apart.
"""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from fault_tally import FaultTally
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from simulated_catalog import ANSWER, SWAP
from simulated_messages import poison
from simulated_scene import SimulatedScene, simulated_scene

from k2_market.errors import K2Error
from k2_market.kinds.shipped import KINDS, tables_of
from k2_resources.iceberg import snapshot_expiry
from k2_resources.iceberg.catalog import ensure_table, open_catalog
from k2_resources.raw.commit import CommitOutcomeUnknown

A_LITTLE_LATER = 60.0
"""Seconds after which a range that failed once is planned again."""


@pytest.fixture
def scene(tally: FaultTally) -> Iterator[SimulatedScene]:
    with simulated_scene() as made:
        yield made
    tally.produced += len(made.sent)


@pytest.fixture(autouse=True)
def counted(request: pytest.FixtureRequest, tally: FaultTally) -> None:
    tally.injected(request.node.originalname.split("_")[2])


def taken_for_dead(scene: SimulatedScene) -> None:
    """The daemon ends the last run, whatever its process does; time passes."""
    scene.dagster.end(scene.dagster.runs[-1], dg.DagsterRunStatus.FAILURE)
    scene.turns.now += A_LITTLE_LATER


def test_iceberg_17551_a_zombie_rewinds_nothing_when_retention_has_removed_the_proof(scene: SimulatedScene) -> None:
    scene.produce(10)
    zombie = scene.planned()
    scene.turns.give_until(zombie, SWAP)
    taken_for_dead(scene)
    scene.catch_up()
    scene.produce(10)
    scene.catch_up()
    scene.broker.retain_from(0, 20)
    scene.dagster.runs.clear()
    before = scene.account
    scene.turns.finish(zombie)
    assert scene.account == before
    assert scene.catch_up() == 0
    assert [row["kafka_offset"] for row in scene.rows()] == list(range(20))
    assert not scene.account.lost
    scene.assert_all_well()


@pytest.mark.parametrize(
    "step", ["writes data files", "writes the snapshot's files", SWAP, ANSWER, "reports its days", "ends well"]
)
def test_iceberg_17340_a_run_killed_at_any_step_and_started_again_commits_its_files_once(
    scene: SimulatedScene, step: str
) -> None:
    scene.produce(10)
    process = scene.planned()
    scene.turns.give_until(process, step)
    scene.turns.kill(process)
    scene.turns.finish(scene.ingest.start_run(scene.dagster.runs[-1]))
    taken_for_dead(scene)
    scene.catch_up()
    assert len(scene.rows()) == 10
    scene.assert_all_well()


def test_iceberg_14425_a_commit_without_an_answer_is_looked_for_and_not_made_again(scene: SimulatedScene) -> None:
    scene.produce(10)
    process = scene.planned()
    scene.turns.give_until(process, ANSWER)
    scene.weather.odds = {"commit landed, answer lost": 1.0}
    scene.turns.give(process)
    scene.weather.calm_down()
    scene.turns.finish(process)
    assert scene.catch_up() == 0
    assert len(scene.rows()) == 10
    scene.assert_all_well()


@pytest.mark.parametrize("lands", ["before the next run swaps", "after the next run has swapped"])
def test_iceberg_14425_a_commit_that_lands_after_its_writer_gave_up_is_committed_once(
    scene: SimulatedScene, lands: str
) -> None:
    scene.produce(10)
    process = scene.planned()
    scene.turns.give_until(process, SWAP)
    scene.weather.odds = {"commit landed late": 1.0}
    scene.turns.give(process)
    scene.weather.calm_down()
    scene.turns.finish(process)
    ((_, error),) = scene.ingest.ends
    assert isinstance(error, CommitOutcomeUnknown)
    scene.ingest.ends.clear()
    scene.turns.now += A_LITTLE_LATER
    following = scene.planned()
    scene.turns.give_until(following, SWAP if lands.startswith("before") else ANSWER)
    scene.catalog.land_one()
    scene.turns.finish(following)
    assert scene.catch_up() == 0
    assert len(scene.rows()) == 10
    scene.assert_all_well()


def test_iceberg_17637_two_coordinators_and_two_writers_on_one_range_commit_it_once(scene: SimulatedScene) -> None:
    scene.produce(10)
    one, other = scene.planned(), None
    scene.turns.give_until(one, SWAP)
    scene.dagster.runs.clear()  # the other coordinator knows nothing of the first
    other = scene.planned()
    scene.turns.give_until(other, SWAP)
    for process in (other, one):
        scene.turns.finish(process)
    assert len(scene.rows()) == 10
    assert scene.account.messages == 10
    scene.assert_all_well()


def test_iceberg_15878_commits_that_fail_are_said_to_fail_and_made_later(scene: SimulatedScene) -> None:
    scene.produce(10)
    attempts = 3
    for attempt in range(1, attempts + 1):
        process = scene.planned()
        scene.turns.give_until(process, SWAP)
        scene.catalog.down_until = scene.turns.now + 120
        scene.turns.finish(process)
        assert scene.dagster.runs[-1].status is dg.DagsterRunStatus.FAILURE
        assert scene.dagster.runs[-1].tags[".dagster/k2_attempt"] == str(attempt)
        scene.turns.now += 300
    assert [isinstance(error, K2Error) for _, error in scene.ingest.ends] == [True] * attempts
    scene.ingest.ends.clear()
    assert scene.rows() == []
    scene.catch_up()
    assert len(scene.rows()) == 10
    scene.assert_all_well()


def test_iceberg_15878_a_commit_that_lost_ten_times_is_said_to_fail_and_made_later(scene: SimulatedScene) -> None:
    scene.produce(1)
    scene.catch_up()
    scene.produce(10)
    process = scene.planned()
    for number in range(10):
        scene.turns.give_until(process, SWAP)
        table = scene.catalog.load_table("simulated.raw_trades")
        table.manage_snapshots().create_tag(table.metadata.snapshots[-1].snapshot_id, f"tag-{number}").commit()
        scene.turns.give(process)
        scene.turns.now += 5
    scene.turns.finish(process)
    ((_, error),) = scene.ingest.ends
    assert "lost against other writers 10 times" in str(error)
    scene.ingest.ends.clear()
    scene.turns.now += A_LITTLE_LATER
    scene.catch_up()
    assert len(scene.rows()) == 11
    scene.assert_all_well()


def test_iceberg_15032_one_poison_message_stops_nothing_and_keeps_its_bytes(scene: SimulatedScene) -> None:
    for message in poison():
        scene.produce(3)
        scene.send(message)
    scene.produce(3)
    scene.catch_up()
    dead = [row for row in scene.rows() if row["reject_reason"] is not None]
    assert [row["payload"] for row in dead] == [message.value for message in poison()]
    assert scene.account.dead_letters == len(poison())
    scene.produce(5)
    scene.catch_up()
    assert len(scene.rows()) == len(scene.sent)
    scene.assert_all_well()


def test_iceberg_15293_a_topic_created_anew_is_read_though_its_offsets_were_seen_before(scene: SimulatedScene) -> None:
    scene.produce(10)
    scene.catch_up()
    scene.broker.create(1)
    scene.produce(4)
    scene.catch_up()
    assert len(scene.rows()) == 14
    scene.assert_all_well()


def test_iceberg_13536_what_was_there_before_the_first_start_is_ingested(scene: SimulatedScene) -> None:
    scene.produce(10)
    scene.broker.retain_from(0, 4)
    scene.catch_up()
    assert [row["kafka_offset"] for row in scene.rows()] == list(range(4, 10))
    assert {offset for _, _, offset in scene.account.lost} == set(range(4))
    scene.assert_all_well()


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_iceberg_5846_expired_snapshots_take_no_proof_with_them(
    scene: SimulatedScene, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    monkeypatch.setattr(snapshot_expiry, "KEPT_SNAPSHOTS", kept)
    for _ in range(4):
        scene.produce(5)
        scene.catch_up()
    assert len(scene.catalog.committed[-1].snapshots) == max(kept, 2)  # what is new, and what it builds on
    assert scene.catch_up() == 0
    assert len(scene.rows()) == 20
    scene.assert_all_well()


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return open_catalog(f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}/warehouse")


def two_writers(catalog: Catalog, one: str, other: str) -> Table:
    """Two writers that know the same table append a row each and note it in one property; the table after both."""
    name = (one, other)
    tables = [catalog.load_table("peers.notes") for _ in name]
    for table, writer in zip(tables, name, strict=True):
        with table.transaction() as transaction:
            transaction.append(pa.table({"writer": [writer]}))
            transaction.set_properties({"written": f"{table.properties.get('written', '')}{writer} "})
    return catalog.load_table("peers.notes")


def test_pyiceberg_3320_with_its_own_retry_both_rows_land_and_one_note_is_lost(catalog: Catalog) -> None:
    catalog.create_namespace("peers")
    catalog.create_table("peers.notes", pa.schema([("writer", pa.string())]))
    table = two_writers(catalog, "one", "other")
    assert table.scan().to_arrow().num_rows == 2
    assert table.properties["written"] == "other "


def test_pyiceberg_3320_as_k2_makes_its_tables_the_second_writer_is_refused(catalog: Catalog) -> None:
    properties = ensure_table(catalog, "peers", "raw_trades", tables_of(KINDS)["raw_trades"]).properties
    catalog.create_table("peers.notes", pa.schema([("writer", pa.string())]), properties=properties)
    with pytest.raises(CommitFailedException):
        two_writers(catalog, "one", "other")
    table = catalog.load_table("peers.notes")
    assert table.scan().to_arrow().num_rows == 1
    assert table.properties["written"] == "one "
