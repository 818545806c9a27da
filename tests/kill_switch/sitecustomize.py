"""Kills or stops a process of the tests at a point that K2's code names (``crash_points.reached``).

Python imports this module at its start wherever this directory is on its path; ``tests/conftest.py`` puts it there for
the processes that tests start. Without these environment variables nothing is changed:

- ``K2_CRASH_AT=before_cas`` ends the process with SIGKILL at the point, as an outage would;
- ``K2_PAUSE_AT=before_cas`` stops it there with SIGSTOP, until someone sends SIGCONT.

``before_cas:2`` means the second time that the process comes to the point; each acts once.
"""

import os
import signal
from collections import Counter

CRASH_AT = os.environ.get("K2_CRASH_AT", "")
PAUSE_AT = os.environ.get("K2_PAUSE_AT", "")
_times: Counter[str] = Counter()


def reached(point: str) -> None:
    """Die or stop here, when the environment names this point and this time of coming to it."""
    _times[point] += 1
    if _is_meant(CRASH_AT, point):
        os.kill(os.getpid(), signal.SIGKILL)
    if _is_meant(PAUSE_AT, point):
        signal.raise_signal(signal.SIGSTOP)


def _is_meant(setting: str, point: str) -> bool:
    name, _, time = setting.partition(":")
    return name == point and _times[point] == int(time or 1)


if CRASH_AT or PAUSE_AT:
    from k2_resources.runtime import crash_points

    crash_points.reached = reached
