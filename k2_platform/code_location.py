"""Gives Dagster the definitions that this process's environment asks for, with logging and counts set up.

A process that serves them to a daemon has sensors and schedules only if no other Dagster instance automates this home.
"""

import sys
from multiprocessing import parent_process

from k2_resources.runtime.process import loaded_for_good

with loaded_for_good():
    from k2_market.feeds.feed import load_feeds
    from k2_platform.definitions import build_defs
    from k2_platform.kept_closures import looked_up, written_down
    from k2_resources.dagster.automation_owner import Automator, claim
    from k2_resources.logs.structured_logging import configure_logging, get_logger
    from k2_resources.metrics.event_counts import keep_counts
    from k2_resources.runtime.process import end_without_backtrace
    from k2_resources.settings import Settings

    end_without_backtrace()
    _settings = Settings.load()
    configure_logging("dagster", _settings)
    keep_counts(_settings)
    _declared = load_feeds(_settings.feed_directories)
    # The server alone looks calendars up: a run is its child and starts often.
    if parent_process() is None:
        _feeds, _closures = looked_up(_settings, _declared)
        for _file in _feeds.refused:
            get_logger("feeds").error("feed file refused", file=_file.path, feed=_file.name, reason=_file.reason)
    else:
        _feeds, _closures = written_down(_settings, _declared)
    _other = claim(_settings.home, Automator.own()) if "grpc" in sys.argv else None
    if _other is not None:
        get_logger("dagster").warning(
            "no sensors and schedules are loaded: another Dagster instance automates this home",
            home=str(_settings.home),
            automator=str(_other),
        )
    defs = build_defs(
        settings=_settings, feeds=_feeds, refused=_feeds.refused, automated=_other is None, closures=_closures
    )
