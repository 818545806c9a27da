import pytest

from k2_cli.commands.sql import ParameterError, parse_parameters


def test_values_come_after_the_first_equals_sign() -> None:
    assert parse_parameters(["day=2014-03-11", "$symbol=ES=F", "empty="]) == {
        "day": "2014-03-11",
        "symbol": "ES=F",
        "empty": "",
    }


@pytest.mark.parametrize("wrong", ["day", "=2014-03-11", "a b=1", "1a=1", ""])
def test_what_is_not_an_assignment_is_refused_with_an_example(wrong: str) -> None:
    with pytest.raises(ParameterError, match="expected NAME=VALUE, as in --param day=2014-03-11"):
        parse_parameters([wrong])


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(ParameterError, match="day already has the value '1'"):
        parse_parameters(["day=1", "day=2"])
