"""Raw trades of feeds that declare their silence have a freshness policy in Dagster."""

from datetime import timedelta

import dagster as dg

from k2_market.feeds.feed import Feed, load_feeds
from k2_platform.definitions import build_defs
from k2_resources.settings import Settings

SETTINGS = Settings()


def policy_of(feed: Feed) -> dg.FreshnessPolicy | None:
    graph = build_defs(settings=SETTINGS, feeds={feed.name: feed}).resolve_asset_graph()
    return graph.get(dg.AssetKey([feed.name, "raw_trades"])).freshness_policy


def test_a_feed_that_declares_how_long_it_may_be_silent_has_a_freshness_policy() -> None:
    hitbtc = load_feeds(SETTINGS.feed_directories)["hitbtc"]

    declared = policy_of(hitbtc.model_copy(update={"silence": type(hitbtc.silence)(minutes=45)}))

    assert declared == dg.FreshnessPolicy.time_window(fail_window=timedelta(minutes=90))


def test_history_that_is_loaded_at_once_has_none() -> None:
    assert policy_of(load_feeds(SETTINGS.feed_directories)["hitbtc"]) is None
