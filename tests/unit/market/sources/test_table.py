import pytest

from k2_market.errors import SourceFileError
from k2_market.sources.table import SourceTable


def table(content: bytes) -> SourceTable:
    return SourceTable.with_header(content, "t.csv", ("a", "b"), ("c",))


def test_columns_are_found_by_name_in_any_order_as_text():
    found = table(b"c,b,a\n007,,x\n")

    assert found.columns.to_dicts() == [{"c": "007", "b": "", "a": "x"}]


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbfa,b\n1,2\n", b"a,b\r\n1,2\r\n", b"a,b\n1,2", b'a,b\n"1","2"\n', b"\n\na,b\n\n1,2\n\n"]
)
def test_what_editors_and_spreadsheets_do_to_a_file_makes_no_difference(content):
    assert table(content).columns.rows() == [("1", "2")]


def test_a_header_alone_is_a_file_without_rows():
    assert table(b"a,b\n").columns.height == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "t.csv is empty; expected a header"),
        (b"a,c\n1,2\n", "t.csv: column 'b' is missing; found a, c, expected a, b and, if there, c"),
        (b"a,b,a\n1,2,3\n", "t.csv, row 1: column 'a' stands there twice"),
        (b"a,b,condition\n1,2,3\n", "t.csv, row 1: unknown column 'condition'; expected a, b, c"),
        (b"a,b\n1,2\n3\n", "t.csv, row 3: found 1 columns, expected 2"),
        (b"a,b\n1,2\n\n\n3,4,5\n", "t.csv, row 5: found 3 columns, expected 2"),
        (b"a,b\n1,2\n3,\xff\n", "t.csv, row 3: found bytes that are not UTF-8"),
        (b'a,b\n1,"2\n3,4\n5,6\n', "t.csv, row 4: column 'b': .* expected no line break in a value"),
    ],
)
def test_a_malformed_file_is_refused_with_what_and_where(content, message):
    with pytest.raises(SourceFileError, match=message):
        table(content)


def test_rows_without_header_have_the_columns_that_the_format_says():
    found = SourceTable.without_header(b"1,2\n3,4\n", "t.csv", ("x", "y"))

    assert found.columns.to_dicts() == [{"x": "1", "y": "2"}, {"x": "3", "y": "4"}]
    assert (found.row_number(0), found.row_number(1)) == (1, 2)


def test_a_row_without_header_that_is_too_short_is_refused_by_its_number():
    with pytest.raises(SourceFileError, match="row 2: found 1 columns, expected 2"):
        SourceTable.without_header(b"1,2\n3\n", "t.csv", ("x", "y"))


def test_rows_are_numbered_as_an_editor_counts_lines():
    found = table(b'a,b\n\n1,2\n"3",4\n\n5,6\n')

    assert [found.row_number(index) for index in range(3)] == [3, 4, 6]


def test_the_first_row_that_fails_a_condition_is_named_with_what_was_found():
    found = table(b"a,b\n1,2\n3,4\n5,6\n")

    with pytest.raises(SourceFileError, match=r"^t.csv, row 3: column 'b': found '4', expected two$"):
        found.refuse_unless(found.columns["b"] == "2", "b", "two")


def test_a_long_value_is_shortened_in_an_error():
    found = table(b"a,b\n" + b"x" * 10_000 + b",2\n")

    with pytest.raises(SourceFileError) as refused:
        found.refuse_unless(found.columns["a"] == "", "a", "nothing")

    assert "(10000 characters)" in str(refused.value)
    assert len(str(refused.value)) < 200
