"""Shows the progress of a download: a bar in a terminal, one line elsewhere."""

from types import TracebackType
from typing import Protocol, Self


class Progress(Protocol):
    """Something that wants to know of bytes as they arrive."""

    def advance(self, size_bytes: int) -> None:
        """So many more bytes have arrived."""


class DownloadProgress:
    """Shows on stderr how far a download of a known size is."""

    def __init__(self, title: str, files: int, size_bytes: int) -> None:
        """Begin a download of ``files`` files that are ``size_bytes`` in all."""
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        self._console = Console(stderr=True, highlight=False)
        self._title = f"{title} ({files} {'file' if files == 1 else 'files'}, {size_bytes / 1e6:.0f} MB)"
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(self._title, total=size_bytes)

    def __enter__(self) -> Self:
        if not self._console.is_terminal:
            self._console.print(f"{self._title} ...")
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, size_bytes: int) -> None:
        """So many more bytes have arrived."""
        self._bar.advance(self._task, size_bytes)
