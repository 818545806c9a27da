"""The list of what a backup holds: it is read as it was written, or refused."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_market.homes.backup_manifest import BackupError, BackupFile, BackupManifest, BackupTable

TEXTS = st.text(max_size=10)
PATHS = st.lists(
    st.text(min_size=1, max_size=8).filter(lambda p: "/" not in p and p not in (".", "..")), min_size=1
).map("/".join)
FILES = st.builds(BackupFile, path=PATHS, size=st.integers(0, 2**60), sha256=TEXTS)
TABLES = st.builds(
    BackupTable,
    catalog=TEXTS,
    namespace=TEXTS,
    table=TEXTS,
    location=TEXTS,
    directory=PATHS,
    metadata_location=TEXTS,
)
MANIFESTS = st.builds(
    BackupManifest,
    taken=st.datetimes(timezones=st.just(UTC)),
    home=TEXTS,
    parts=st.lists(TEXTS).map(tuple),
    left_out=st.lists(TEXTS).map(tuple),
    tables=st.lists(TABLES, max_size=3).map(tuple),
    files=st.lists(FILES, max_size=3).map(tuple),
)
ONE = BackupManifest(
    datetime(2026, 11, 30, tzinfo=UTC),
    "/home/a",
    ("tables",),
    (),
    (BackupTable("k2", "asx", "trades", "file:///home/a/warehouse/asx/trades", "asx/trades", "file:///m.json"),),
    (BackupFile("catalog.db", 3, "ab"), BackupFile("warehouse/asx/trades/data/1.parquet", 4, "cd")),
)


@given(MANIFESTS)
def test_a_list_is_read_as_it_was_written(manifest: BackupManifest) -> None:
    assert BackupManifest.from_json(manifest.to_json(), "backup.json") == manifest


def test_the_size_is_that_of_all_files() -> None:
    assert ONE.size == 7


@given(st.data())
def test_a_list_that_was_cut_short_is_refused(data: st.DataObject) -> None:
    text = ONE.to_json()
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    with pytest.raises(BackupError, match=r"^/b/backup\.json "):
        BackupManifest.from_json(cut, "/b/backup.json")


@given(st.sampled_from(sorted(json.loads(ONE.to_json()))))
def test_a_list_that_lacks_something_is_refused(missing: str) -> None:
    content = json.loads(ONE.to_json())
    del content[missing]
    with pytest.raises(BackupError, match="was it damaged"):
        BackupManifest.from_json(json.dumps(content), "backup.json")


def test_a_list_of_another_version_is_refused_by_both_versions() -> None:
    text = json.dumps({**json.loads(ONE.to_json()), "version": 2})
    with pytest.raises(BackupError, match="found version 2, expected 1"):
        BackupManifest.from_json(text, "backup.json")


@pytest.mark.parametrize("path", ["../catalog.db", "/etc/passwd", "", "warehouse/../../x", ".", "a/.."])
def test_a_path_that_leads_out_of_the_backup_is_refused_by_its_name(path: str) -> None:
    for place in ("files", "tables"):
        content = json.loads(ONE.to_json())
        content[place][0]["path" if place == "files" else "directory"] = path
        with pytest.raises(BackupError, match="no path within a backup"):
            BackupManifest.from_json(json.dumps(content), "backup.json")
