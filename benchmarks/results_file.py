"""Where a benchmark's figures go: to the terminal, and to ``benchmarks/results/<name>.json``."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import machine

RESULTS = Path(__file__).with_name("results")


def write_results(name: str, figures: Mapping[str, Any]) -> Path:
    """Print a benchmark's figures with the machine they come from, and keep them.

    Args:
        name: The benchmark's name, which is the file's.
        figures: What was measured, units in the names.

    Returns:
        The file.
    """
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    result = {"benchmark": name, "ended": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine()}
    text = json.dumps({**result, **figures}, indent=2)
    print(text, flush=True)
    path.write_text(text + "\n", encoding="utf-8")
    return path
