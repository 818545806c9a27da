"""Names the points at which a dying process leaves most behind, so that the fault suite can kill or stop it there."""


def reached(point: str) -> None:
    """Do nothing. Tests put a function here that kills or stops the process (``tests/kill_switch``).

    Args:
        point: The point that the process has come to, such as ``before_cas``.
    """
