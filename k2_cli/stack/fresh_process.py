"""Replaces this process by another program, without inherited signals and descriptors that make it hard to stop.

Run as a script by ``process_supervision``: a process started from a script or a pipe may inherit ignored signals,
and Java and Dagster leave ignored signals ignored. ``--until-parent-ends`` has Linux end the program with the
process that started it, for tests that are killed before they can clean up.
"""

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Replace this process by ``arguments``: ``[--until-parent-ends PARENT_PID] PROGRAM ARGUMENT...``."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    if arguments[0] == "--until-parent-ends":
        _end_with_parent(int(arguments[1]))
        arguments = arguments[2:]
    os.execvp(arguments[0], arguments)


def _end_with_parent(parent: int) -> None:
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the starting process has already ended")


if __name__ == "__main__":
    main(sys.argv[1:])
