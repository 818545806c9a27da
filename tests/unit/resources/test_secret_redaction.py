import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from k2_resources.secret_redaction import HIDDEN, MAX_TEXT, SecretRedaction, secrets_of

redaction = SecretRedaction.of()


@pytest.mark.parametrize(
    "key", ["password", "PGPASSWORD", "sasl.password", "client_secret", "access_token", "webhook_url", "Authorization"]
)
def test_the_value_under_a_secrets_key_is_hidden_at_any_depth(key: str) -> None:
    assert redaction.fields({key: "hunter2"}) == {key: HIDDEN}
    assert redaction.fields({"a": [{"b": {key: ["hunter2"]}}]}) == {"a": [{"b": {key: HIDDEN}}]}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://k2:hunter2@db:5432/k2", "postgresql://***@db:5432/k2"),
        ("see s3://key:hunter2@store/warehouse.", "see s3://***@store/warehouse."),
        ("https://hunter2@host/x", "https://***@host/x"),
        ("POST https://hooks.slack.com/services/T0/B0/hunter2 failed", "POST https://hooks.slack.com/*** failed"),
        ("https://discord.example/api/webhooks/1/hunter2", "https://discord.example/***"),
        ("https://chat.example/hooks/hunter2", "https://chat.example/***"),
        ("password=hunter2 user=k2", "password=*** user=k2"),
        ("{'sasl.password': 'hunter2', 'x': 1}", "{'sasl.password': '***', 'x': 1}"),
        ('"token": "hunter2"', '"token": "***"'),
        ("Authorization: Bearer hunter2hunter2", "Authorization: ***"),
        ("sent Bearer hunter2hunter2 along", "sent Bearer *** along"),
    ],
)
def test_a_secret_is_hidden_by_its_place_in_a_text(text: str, shown: str) -> None:
    assert redaction.text(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:3000/runs/abc",
        "127.0.0.1:19092/bootstrap: Connect to ipv4#127.0.0.1:19092 failed: Connection refused",
        "file:///home/k2/.k2/warehouse/asx/raw_trades/data/exchange_date=2014-03-10/x.parquet",
        "asx/raw_trades partition 2014-03-10: offsets [0, 200545)",
        "sqlite:////home/k2/.k2/catalog.db",
    ],
)
def test_what_is_no_secret_is_left_as_it_is(text: str) -> None:
    assert redaction.text(text) == text


def test_a_known_secret_is_hidden_wherever_it_turns_up() -> None:
    known = SecretRedaction.of({"https://x.example/abc", "https://x.example/abc/def", "no"})

    assert known.text("no: posting to https://x.example/abc/def?") == f"no: posting to {HIDDEN}?"


def test_the_secrets_of_settings_are_those_that_are_set() -> None:
    class Some(BaseModel):
        webhook: SecretStr | None = SecretStr("https://x.example/abc")
        other: SecretStr | None = None
        home: str = "/home/k2"

    assert secrets_of(Some()) == {"https://x.example/abc"}


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        ("postgresql+psycopg2://k2:hunter22@db:5432/k2", {"hunter22"}),
        ("http://k2:hunter%2F22@registry:8080/apis/ccompat/v7", {"hunter%2F22", "hunter/22"}),
        ("postgresql://k2:hun@ter22@db/k2", {"hun", "hun@ter22"}),
        ("postgresql://k2:hun/ter#22@db/k2", {"hun/ter#22"}),
        ("s3://key:hunter22@store/w", {"hunter22"}),
        ("postgresql://k2@db:5432/k2", set()),
        ("sqlite:////home/k2/catalog.db", set()),
        ("broker-1:9092,broker-2:9092", set()),
    ],
)
def test_a_password_in_a_settings_url_is_a_secret_however_it_is_written(url: str, secrets: set[str]) -> None:
    class Some(BaseModel):
        address: str

    assert secrets_of(Some(address=url)) == secrets


def test_a_password_with_an_at_sign_is_hidden_whole() -> None:
    assert redaction.text("at postgresql://k2:hun@ter2@db/k2 now") == "at postgresql://***@db/k2 now"


def test_a_long_text_is_cut_and_says_so() -> None:
    assert redaction.text("x" * (MAX_TEXT + 5)) == "x" * MAX_TEXT + "… (5 more characters)"


def test_what_json_has_no_word_for_becomes_text() -> None:
    assert redaction.value({"n": math.nan, "i": -math.inf, 3: {1}}) == {"n": "nan", "i": "-inf", "3": [1]}


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(_json)
def test_any_value_becomes_strict_json(value: object) -> None:
    json.dumps(redaction.value(value), allow_nan=False)


@given(st.text(), st.text(), st.text(alphabet="abcdefXYZ0123456789-_/", min_size=8))
def test_a_known_secret_never_gets_through(before: str, after: str, secret: str) -> None:
    assert secret not in SecretRedaction.of([secret]).text(f"{before}{secret}{after}")


@pytest.mark.parametrize(
    "piece", ["x", "a.", "http://", "token", "password= ", "a://b", "http://h/a/", "hook", "basic "]
)
def test_a_hostile_text_is_read_in_time_proportional_to_its_length(piece: str) -> None:
    started = time.perf_counter()
    redaction.text(piece * (1_000_000 // len(piece)))

    assert time.perf_counter() - started < 5
