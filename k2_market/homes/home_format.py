"""Describes the format of a home: how the files that K2 keeps in it lie and what they say (#063)."""

import json
from dataclasses import asdict, dataclass

from k2_market.errors import K2Error

FORMAT = 1
"""The format that this K2 makes and works on. It grows with every change that an older home must be migrated for."""


class HomeFormatError(K2Error):
    """A home can't be worked on as it is: it is newer than this K2, must be migrated first, or says nonsense."""


@dataclass(frozen=True)
class HomeFormat:
    """The format of a home, as its ``home.json`` says it.

    Attributes:
        format: The number of the format; 0 for homes that were made before there were numbers.
        k2: The version of K2 that wrote it.
    """

    format: int
    k2: str

    def to_json(self) -> str:
        """Write it as the text of ``home.json``."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> "HomeFormat":
        """Read it.

        Args:
            text: The content of ``home.json``.
            where: Its path, for the error.

        Raises:
            HomeFormatError: The text is no such file's.
        """
        try:
            content = json.loads(text)
            number, k2 = content["format"], content["k2"]
        except (ValueError, KeyError, TypeError) as error:
            raise HomeFormatError(f"{where}: not the format of a home ({error!r}): was it damaged?") from error
        if type(number) is not int or number < 0 or not isinstance(k2, str):
            raise HomeFormatError(f"{where}: found {text.strip()!r}; expected a format such as {cls(FORMAT, '0.1.0')}")
        return cls(number, k2)


def require_known(found: HomeFormat, where: str, running: str) -> None:
    """Refuse a home, or a backup of one, whose format this K2 does not know.

    Args:
        found: Its format.
        where: Its path.
        running: The version of this K2.

    Raises:
        HomeFormatError: The format is a newer one; names both versions.
    """
    if found.format > FORMAT:
        raise HomeFormatError(
            f"{where} has format {found.format}, written by K2 {found.k2}; this is K2 {running}, which knows formats "
            f"up to {FORMAT}. Nothing was changed. Install K2 {found.k2} or newer"
        )
