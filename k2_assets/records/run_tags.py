"""The names of the tags that K2 gives its runs, and how they are read.

Dagster shows no tag whose name begins with ``.dagster/`` in its lists of runs; what only K2's plans read is named so.
"""

from collections.abc import Mapping

FEED_TAG = "k2/feed"
REBUILD_TAG = "k2/rebuild"
"""Marks a run that was asked for so that its days adopt the feed's current rules."""

_HIDDEN = ".dagster/k2_"
DAYS_TAG = f"{_HIDDEN}days"
ATTEMPT_TAG = f"{_HIDDEN}attempt"
VERSION_TAG = f"{_HIDDEN}raw_version"
PROCESS_TAG = f"{_HIDDEN}process"
FAILURE_TAG = f"{_HIDDEN}failure"


def value_of(tags: Mapping[str, str], name: str) -> str | None:
    """Read a tag of a run; earlier versions of K2 named it ``k2/days`` where it is ``.dagster/k2_days``."""
    return tags.get(name, tags.get(name.replace(_HIDDEN, "k2/")))
