"""Places where a test may kill the process, so that what a crash leaves behind can be looked at.

Without ``K2_CRASH_AT`` in the environment they do nothing.
"""

import os
import signal

_CRASH_AT = os.environ.get("K2_CRASH_AT", "")


def reached(point: str) -> None:
    """Die by SIGKILL, as from an outage, when ``K2_CRASH_AT`` names this point."""
    if point == _CRASH_AT:
        os.kill(os.getpid(), signal.SIGKILL)
