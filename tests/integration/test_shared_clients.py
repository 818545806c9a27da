"""A process opens a catalog once, however often it asks, and never goes on with a file that is another by now."""

import gc
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from k2_market.kinds.shipped import KINDS, tables_of
from k2_market.kinds.trades import TRADES
from k2_resources.dagster.resources import IcebergCatalogResource, KafkaResource, SchemaRegistryResource
from k2_resources.dagster.shared_clients import shared_catalog
from k2_resources.iceberg.catalog import CatalogUnavailable, ensure_table, find_table
from k2_resources.kafka.topics import KafkaTopics


def resource(directory: Path) -> IcebergCatalogResource:
    return IcebergCatalogResource(uri=f"sqlite:///{directory}/catalog.db", warehouse=f"file://{directory}/warehouse")


def test_looking_at_ledgers_again_and_again_opens_no_more_files(tmp_path: Path) -> None:
    iceberg = resource(tmp_path)
    ensure_table(iceberg.catalog(), "asx", "raw_trades", tables_of(KINDS)["raw_trades"])
    gc.disable()  # as it is while a run ingests
    try:
        iceberg.raw_table("asx", TRADES).ledger()
        before = psutil.Process().num_fds()
        for _ in range(50):
            resource(tmp_path).raw_table("asx", TRADES).ledger()
        assert psutil.Process().num_fds() == before
    finally:
        gc.enable()
    assert iceberg.catalog() is resource(tmp_path).catalog()


def test_each_service_has_one_client_a_process() -> None:
    def topics(servers: str) -> KafkaTopics:
        return KafkaResource(bootstrap_servers=servers).topics()

    assert topics("127.0.0.1:1") is topics("127.0.0.1:1")
    assert topics("127.0.0.1:1") is not topics("127.0.0.1:2")
    url = "http://127.0.0.1:1"
    assert SchemaRegistryResource(url=url).registry() is SchemaRegistryResource(url=url).registry()


def test_a_catalog_whose_file_was_put_in_place_of_another_is_opened_anew(tmp_path: Path) -> None:
    iceberg = resource(tmp_path)
    ensure_table(iceberg.catalog(), "asx", "raw_trades", tables_of(KINDS)["raw_trades"])
    shutil.copy(tmp_path / "catalog.db", tmp_path / "kept.db")
    ensure_table(iceberg.catalog(), "asx", "trades", tables_of(KINDS)["trades"])
    (tmp_path / "kept.db").replace(tmp_path / "catalog.db")

    assert find_table(iceberg.catalog(), "asx", "trades") is None
    assert find_table(iceberg.catalog(), "asx", "raw_trades") is not None


FORKS = """
import multiprocessing, sys
from k2_resources.dagster.shared_clients import shared_catalog

uri, warehouse = sys.argv[1:]

def is_of_the_parent():
    return "of the parent" in shared_catalog(uri, warehouse).properties

shared_catalog(uri, warehouse).properties["of the parent"] = "yes"
assert is_of_the_parent()
with multiprocessing.get_context("fork").Pool(1) as pool:
    assert not pool.apply(is_of_the_parent)
"""


def test_a_forked_process_makes_clients_of_its_own(tmp_path: Path) -> None:
    # In a process of its own: a fork of this one could wait for ever for a lock that a thread of other tests held.
    arguments = [f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}/warehouse"]
    forking = subprocess.run(
        [sys.executable, "-c", FORKS, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert forking.returncode == 0, forking.stderr


def test_a_catalog_that_cannot_be_opened_says_so_in_words() -> None:
    with pytest.raises(CatalogUnavailable):
        shared_catalog("nonsense", "file:///nowhere")
    with pytest.raises(CatalogUnavailable):
        shared_catalog("sqlite:////proc/none/catalog.db", "file:///nowhere")
