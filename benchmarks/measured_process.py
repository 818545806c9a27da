"""Runs a function in a fresh process and measures it: wall time, processor time, peak memory.

A fresh process each time, since neither imports, nor caches, nor memory that an allocator keeps may be handed on from
one measurement to the next.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_ANSWER = "k2-measured: "


@dataclass(frozen=True)
class Measured:
    """What a function took in a process of its own.

    Attributes:
        wall_seconds: From its call to its return; imports made before, such as its module's own, do not count.
        cpu_seconds: Of all the process's threads, in the same time.
        process_cpu_seconds: Of all the process's threads from its start on, imports included.
        process_seconds: From the start of the process to its end, imports included.
        peak_rss_bytes: The most memory that the process held at any time, imports included.
        answer: What the function returned.
    """

    wall_seconds: float
    cpu_seconds: float
    process_cpu_seconds: float
    process_seconds: float
    peak_rss_bytes: int
    answer: Any


def measure(function: Callable[..., Any], **arguments: Any) -> Measured:
    """Call a function in a fresh process.

    Args:
        function: Of a module's top level, and of a module that can be imported by its name (``benchmarks.bars``).
        **arguments: Its arguments; JSON carries them over, and what it returns back.

    Raises:
        RuntimeError: The process failed; holds what it wrote to standard error.
    """
    module = sys.modules[function.__module__]
    name = function.__module__ if function.__module__ != "__main__" else module.__spec__.name  # type: ignore[union-attr]
    started = time.perf_counter()
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.measured_process", f"{name}:{function.__name__}", json.dumps(arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    lasted = time.perf_counter() - started
    answers = [line for line in process.stdout.splitlines() if line.startswith(_ANSWER)]
    if process.returncode or not answers:
        raise RuntimeError(f"{name}:{function.__name__} ended with {process.returncode}:\n{process.stderr}")
    return Measured(process_seconds=lasted, **json.loads(answers[-1].removeprefix(_ANSWER)))


def in_turns(rounds: int, measurements: Mapping[str, Callable[[], Measured]]) -> dict[str, list[Measured]]:
    """Measure several things in turns, so that what else the machine does meanwhile falls on all of them alike."""
    found: dict[str, list[Measured]] = {name: [] for name in measurements}
    for number in range(rounds):
        for name, measurement in measurements.items():
            found[name].append(once := measurement())
            print(
                f"  round {number + 1}, {name}: {once.wall_seconds:.2f} s wall, {once.cpu_seconds:.2f} s processor, "
                f"{once.peak_rss_bytes / 1e9:.2f} GB",
                flush=True,
            )
    return found


def medians(found: Iterable[Measured]) -> dict[str, float]:
    """The median of each figure, and the most and least of wall time, for a result's JSON."""
    rounds = list(found)
    walls = [each.wall_seconds for each in rounds]
    return {
        "wall_seconds": round(median(walls), 4),
        "wall_seconds_least": round(min(walls), 4),
        "wall_seconds_most": round(max(walls), 4),
        "cpu_seconds": round(median(each.cpu_seconds for each in rounds), 4),
        "process_seconds": round(median(each.process_seconds for each in rounds), 4),
        "peak_rss_bytes": round(median(each.peak_rss_bytes for each in rounds)),
        "rounds": len(rounds),
    }


def peak_rss_bytes() -> int:
    """The most memory that this process has held.

    Linux keeps in ``ru_maxrss`` what the parent held when it started this process; ``VmHWM`` is this process alone.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def _run(target: str, arguments: str) -> None:
    module, name = target.split(":")
    function = getattr(import_module(module), name)
    wall, cpu = time.perf_counter(), time.process_time()
    answer = function(**json.loads(arguments))
    figures = {
        "wall_seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "process_cpu_seconds": time.process_time(),
    }
    print(_ANSWER + json.dumps({**figures, "peak_rss_bytes": peak_rss_bytes(), "answer": answer}), flush=True)


if __name__ == "__main__":
    _run(*sys.argv[1:])
