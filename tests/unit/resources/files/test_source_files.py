import gzip
from pathlib import Path

import pytest

from k2_market.errors import SourceFileError
from k2_resources.files.source_files import find_source_files, read_source_file


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in ("b.csv", "a.csv.gz", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "c.csv").write_bytes(b"x")
    return tmp_path


def test_a_directory_stands_for_its_csv_files_sorted_by_name(directory):
    assert [path.name for path in find_source_files([str(directory)])] == ["a.csv.gz", "b.csv"]


def test_a_pattern_stands_for_what_fits_it(directory):
    assert [path.name for path in find_source_files([f"{directory}/**/*.csv"])] == ["b.csv", "c.csv"]


def test_a_file_that_is_named_is_taken_whatever_its_name(directory):
    assert find_source_files([str(directory / "notes.txt")]) == [directory / "notes.txt"]


def test_a_file_that_is_named_twice_is_read_once_and_names_keep_their_order(directory):
    found = find_source_files([str(directory / "b.csv"), str(directory), f"{directory}/later/../b.csv"])

    assert [path.name for path in found] == ["b.csv", "a.csv.gz"]


@pytest.mark.parametrize("name", ["nothing.csv", "*.parquet", "later/none"])
def test_a_name_that_stands_for_nothing_is_refused(directory, name):
    with pytest.raises(SourceFileError, match="found nothing, expected a file, a directory or a pattern"):
        find_source_files([f"{directory}/{name}"])


def test_a_directory_without_csv_files_is_refused(tmp_path):
    with pytest.raises(SourceFileError, match=r"holds no file that ends in .csv or .csv.gz, and nothing else"):
        find_source_files([str(tmp_path)])


def test_gzip_is_known_by_its_content_and_not_by_its_name(tmp_path):
    (tmp_path / "packed.csv").write_bytes(gzip.compress(b"a,b\n"))
    (tmp_path / "plain.csv.gz").write_bytes(b"a,b\n")

    assert read_source_file(tmp_path / "packed.csv") == read_source_file(tmp_path / "plain.csv.gz") == b"a,b\n"


@pytest.mark.parametrize("harm", [lambda packed: packed[:-9], lambda packed: packed[:20] + b"\xff" * 20 + packed[40:]])
def test_a_broken_gzip_file_is_refused_by_name(tmp_path, harm):
    path = tmp_path / "broken.csv.gz"
    path.write_bytes(harm(gzip.compress(bytes(range(256)) * 4)))

    with pytest.raises(SourceFileError, match=r"broken.csv.gz: the gzip data is cut off or damaged"):
        read_source_file(path)


def test_a_file_that_can_not_be_opened_is_refused_by_name(tmp_path):
    with pytest.raises(SourceFileError, match=r"gone.csv: can't be read: No such file"):
        read_source_file(tmp_path / "gone.csv")
