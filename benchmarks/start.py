"""How long ``k2 --help`` and ``k2 bars`` take from the shell, process and imports included.

``make bench-start``. Each command has run once before, so that files are in memory and modules are compiled. The bars
are of one simulated day in a home of the benchmark's own.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measured_process import measure
from benchmarks.query import FIRST_DAY, SYMBOL, make_tables
from benchmarks.results_file import write_results

COMMANDS = {
    "help": ["--help"],
    "bars": ["bars", SYMBOL, "--feed", "sim", "--date", str(FIRST_DAY), "--interval", "1d"],
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=5)
    rounds = arguments.parse_args().rounds
    home = Path(tempfile.mkdtemp(prefix="k2-bench-start-"))
    try:
        measure(make_tables, directory=str(home), days=1, trades=20_000, symbols=2_000)
        figures = {name: _times(command, home, rounds) for name, command in COMMANDS.items()}
    finally:
        shutil.rmtree(home)
    write_results("start", {"rounds": rounds, **figures})


def _times(command: list[str], home: Path, rounds: int) -> dict[str, float]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["K2_HOME"] = str(home)
    k2 = [str(Path(sys.executable).with_name("k2")), *command]
    walls, processor = [], []
    for _ in range(rounds + 1):
        started, before = time.perf_counter(), os.times()
        subprocess.run(k2, env=environment, check=True, capture_output=True)
        after = os.times()
        walls.append(time.perf_counter() - started)
        processor.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return {
        "wall_seconds": round(statistics.median(walls[1:]), 3),
        "wall_seconds_least": round(min(walls[1:]), 3),
        "cpu_seconds": round(statistics.median(processor[1:]), 3),
    }


if __name__ == "__main__":
    main()
