"""The catalog on PostgreSQL, as a server has it: down, restarted in the middle of a commit, locked."""

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commit_faults import LOST_CONNECTION, commits_become
from fault_tally import FaultTally
from faulted_feed import NAME, FaultedFeed, assert_whole
from own_postgres import OwnPostgres, own_postgres
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from k2_cli.stack.kafka_process import LocalKafka
from k2_cli.stack.registry_process import LocalRegistry

pytestmark = pytest.mark.slow

TRADES = 500


@pytest.fixture(scope="module")
def postgres() -> Iterator[OwnPostgres]:
    with own_postgres() as server:
        yield server


@pytest.fixture
def faulted(tmp_path: Path, kafka: LocalKafka, registry: LocalRegistry, postgres: OwnPostgres) -> FaultedFeed:
    """A feed whose tables are there already, with a schema in the database of its own."""
    schema = re.sub(r"\W", "_", tmp_path.name)
    with create_engine(postgres.uri).begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    declared = FaultedFeed.declared(tmp_path, kafka.bootstrap_servers, registry.url)
    uri = f"{postgres.uri}?options=-c%20search_path%3D{schema}%20-c%20statement_timeout%3D5s"
    faulted = declared.with_settings(catalog_uri=uri)
    faulted.send(TRADES)
    faulted.catch_up_to_the_end()
    faulted.send(TRADES, seed=2)
    return faulted


def test_a_server_that_is_down_stops_the_plan_in_words(
    faulted: FaultedFeed, postgres: OwnPostgres, tally: FaultTally
) -> None:
    postgres.stop()
    done = faulted.k2("catch-up", "--feed", NAME)
    postgres.start()
    assert done.returncode == 1
    assert "k2: Iceberg catalog postgresql" in done.stderr
    assert "Connection refused" in done.stderr
    assert_whole(faulted, tally, "C1")


def restarted_before_the_transaction_ends(postgres: OwnPostgres) -> Callable[[Callable[[], Any]], Any]:
    """The server ends between the statement and its commit; what it was told it has forgotten."""
    real = Session.commit

    def fault(commit: Callable[[], Any]) -> Any:
        def restart_and_commit(self: Session) -> None:
            postgres.restart()
            real(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Session, "commit", restart_and_commit)
            return commit()

    return fault


def restarted_before_it_answers(postgres: OwnPostgres) -> Callable[[Callable[[], Any]], Any]:
    """The commit lands; the server is away when it is asked whether it did, and comes back."""

    def fault(commit: Callable[[], Any]) -> Any:
        commit()
        postgres.stop()
        threading.Timer(3, postgres.start).start()
        raise LOST_CONNECTION

    return fault


@pytest.mark.parametrize("table", ["raw_trades", "trades"])
def test_a_server_restarted_in_the_middle_of_a_commit_has_not_made_it_and_the_next_run_does(
    table: str, faulted: FaultedFeed, postgres: OwnPostgres, tally: FaultTally
) -> None:
    with commits_become(restarted_before_the_transaction_ends(postgres), f"{NAME}.{table}") as decided:
        done = faulted.catch_up()
    assert decided
    if table == "raw_trades":
        assert done.failed == 1
        assert "CommitOutcomeUnknown" in faulted.failures()[0].splitlines()[0]
    else:
        assert done.failed == 0, faulted.failures()
    assert_whole(faulted, tally, "C8")


@pytest.mark.parametrize("table", ["raw_trades", "trades"])
def test_a_server_restarted_after_a_commit_and_before_its_answer_is_asked_until_it_is_back(
    table: str, faulted: FaultedFeed, postgres: OwnPostgres, tally: FaultTally
) -> None:
    with commits_become(restarted_before_it_answers(postgres), f"{NAME}.{table}") as decided:
        done = faulted.catch_up()
    assert decided
    assert done.failed == 0, faulted.failures()
    assert_whole(faulted, tally, "C3", "C8")


def test_a_lock_that_nobody_releases_ends_the_run_within_the_statements_time(
    faulted: FaultedFeed, postgres: OwnPostgres, tally: FaultTally
) -> None:
    with create_engine(faulted.settings.iceberg_catalog_uri).begin() as connection:
        connection.execute(text("LOCK TABLE iceberg_tables IN SHARE ROW EXCLUSIVE MODE"))
        assert faulted.catch_up().failed == 1
    told = faulted.failures()[0].splitlines()[0]
    assert "CommitOutcomeUnknown" in told
    assert "statement timeout" in told
    assert_whole(faulted, tally, "C2")
