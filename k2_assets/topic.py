"""A feed's Kafka topic as an asset that others fill: where its raw rows come from, how far it reaches, what waits."""

import dagster as dg

from k2_assets.asset_facts import feed_tags, owners_of
from k2_market.feeds.feed import Feed
from k2_market.kinds.raw_kind import RawKind
from k2_market.ledger.offset_ranges import RangeSet
from k2_market.ledger.topic_state import TopicState


def topic_key(feed: str, kind: RawKind) -> dg.AssetKey:
    """Name the asset of a feed's topic of a kind."""
    return dg.AssetKey([feed, f"{kind.name}_topic"])


def topic_asset(feed: Feed, kind: RawKind) -> dg.AssetSpec:
    """Declare a feed's topic of a kind; producers fill it, K2 reads it."""
    return dg.AssetSpec(
        topic_key(feed.name, kind),
        group_name=feed.name,
        kinds={"kafka"},
        owners=owners_of(feed),
        tags={**feed_tags(feed), "layer": "source"},
        metadata={"topic": kind.topic(feed)},
        description=f"The Kafka topic {kind.topic(feed)}: {kind.name} as a feed handler, or `k2 load`, sends "
        "them. Its observations say how many messages it holds, and how many of them no raw row has been made of yet.",
    )


def topic_observation(feed: str, kind: RawKind, topic: TopicState, settled: RangeSet) -> dg.AssetObservation:
    """Describe a feed's topic as it was seen: where it ends, and how many messages the ledger does not hold.

    Args:
        feed: The feed's name.
        kind: The kind of its messages.
        topic: The topic.
        settled: Offsets that the ledger has settled.
    """
    ends = {str(each.partition): each.high for each in topic.partitions}
    return dg.AssetObservation(
        topic_key(feed, kind),
        metadata={
            "lag": len(topic.readable - settled),
            "messages": sum(each.high - each.low for each in topic.partitions),
            "partitions": len(topic.partitions),
            "end_offsets": dg.MetadataValue.json(ends),
        },
    )
