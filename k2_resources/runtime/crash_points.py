"""Places where a process may be killed or stopped on purpose, so that what that leaves behind can be looked at.

Without these environment variables they do nothing:

- ``K2_CRASH_AT=before_cas`` ends the process with SIGKILL at the point, as an outage would;
- ``K2_PAUSE_AT=before_cas`` stops it there with SIGSTOP, until someone sends SIGCONT.

``before_cas:2`` means the second time that the process comes to the point; each acts once.
"""

import os
import signal
from collections import Counter

_CRASH_AT = os.environ.get("K2_CRASH_AT", "")
_PAUSE_AT = os.environ.get("K2_PAUSE_AT", "")

_times: Counter[str] = Counter()


def reached(point: str) -> None:
    """Die or stop here, when the environment names this point and this time of coming to it."""
    if not _CRASH_AT and not _PAUSE_AT:
        return
    _times[point] += 1
    if _is_meant(_CRASH_AT, point):
        os.kill(os.getpid(), signal.SIGKILL)
    if _is_meant(_PAUSE_AT, point):
        signal.raise_signal(signal.SIGSTOP)


def _is_meant(setting: str, point: str) -> bool:
    name, _, time = setting.partition(":")
    return name == point and _times[point] == int(time or 1)
