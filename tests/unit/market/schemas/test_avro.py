import pytest
from avro_messages import TABLES, body, quote, trade

from k2_market.feeds.feed import AssetClass
from k2_market.schemas.avro import subject_of
from k2_market.schemas.message_kinds import QUOTE_MESSAGES, TRADE_MESSAGES


@pytest.mark.parametrize("kind", [TRADE_MESSAGES, QUOTE_MESSAGES])
def test_a_message_with_every_default_can_be_written(kind):
    schema = kind.avro
    complete = {TRADE_MESSAGES: trade(), QUOTE_MESSAGES: quote()}[kind]
    optional = {field["name"] for field in schema["fields"] if "default" in field}

    assert body({name: value for name, value in complete.items() if name not in optional}, schema)


@pytest.mark.parametrize("kind", [TRADE_MESSAGES, QUOTE_MESSAGES])
def test_every_field_is_a_column_of_the_raw_table_and_every_column_before_kafkas_a_field(kind):
    columns = TABLES[kind].names

    assert {field["name"] for field in kind.avro["fields"]} == set(columns[: columns.index("kafka_topic_id")])


@pytest.mark.parametrize("kind", [TRADE_MESSAGES, QUOTE_MESSAGES])
def test_decimals_are_those_of_the_table(kind):
    for field in kind.avro["fields"]:
        if isinstance(field["type"], dict) and field["type"].get("logicalType") == "decimal":
            column = TABLES[kind].field(field["name"]).type
            assert (field["type"]["precision"], field["type"]["scale"]) == (column.precision, column.scale)


def test_asset_classes_are_those_of_feeds():
    for kind in (TRADE_MESSAGES, QUOTE_MESSAGES):
        (asset_class,) = [f["type"] for f in kind.avro["fields"] if f["name"] == "asset_class"]
        assert asset_class["symbols"] == [str(each) for each in AssetClass]


def test_a_topics_subject_is_its_values():
    assert subject_of("market.crypto.trades.hitbtc") == "market.crypto.trades.hitbtc-value"
