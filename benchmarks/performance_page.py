"""Writes ``docs/performance.md`` and its plot from the results that the benchmarks left: ``make bench-page``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

from benchmarks.results_file import RESULTS

matplotlib.use("svg")
from matplotlib import pyplot  # the backend is to be chosen first

_DOCS = RESULTS.parents[1] / "docs"
_PLOT = _DOCS / "images" / "ingest-rates.svg"

_INTRODUCTION = """# Performance

Every table here is what one command printed; run it to have your own. Each result is in `benchmarks/results/`, with the
machine, the versions and the commit. Machines are noisy: compare what stands in one table, which was measured in turns
within one run, and look at the load that the machine had.

This page is written by `make bench-page`.
"""


def main() -> None:
    sections = [_INTRODUCTION, *(section(_result(name)) for name, section in _SECTIONS.items() if _path(name).exists())]
    (_DOCS / "performance.md").write_text("\n".join(sections), encoding="utf-8")


def _ingest(result: dict[str, Any]) -> str:
    parts = [_heading("Ingestion", "bench-ingest", result), "![Rates by message shape](images/ingest-rates.svg)\n"]
    for shape, found in result["shapes"].items():
        rows = [
            [
                name,
                f"{way['steady_per_second']:,.0f}",
                f"{way['cpu_seconds_per_million']:.2f}",
                f"{way['peak_rss_bytes'] / 1e9:.2f}",
                f"{way['first_visible_seconds']:.1f}",
                f"{way['rounds']:.0f}",
            ]
            for name, way in found["ways"].items()
        ]
        heads = ["", "messages/s, steady", "CPU-s a million", "peak GB", "first row after s", "rounds"]
        parts.append(
            f"{result['messages']:,} messages, {shape}, {found['value_bytes']} bytes each:\n\n{_table(heads, rows)}"
        )
    _plot_rates(result["shapes"])
    return "\n".join(parts)


def _plot_rates(shapes: dict[str, Any]) -> None:
    figure, axes = pyplot.subplots(figsize=(8, 1 + 1.6 * len(shapes)))
    labels = [f"{name} ({shape})" for shape, found in shapes.items() for name in found["ways"]]
    rates = [way["steady_per_second"] / 1e3 for found in shapes.values() for way in found["ways"].values()]
    bars = axes.barh(labels, rates, color=["#2a6f97" if "k2" in label else "#a9a9a9" for label in labels])
    axes.bar_label(bars, fmt="%.0f", padding=3)
    axes.invert_yaxis()
    axes.set_xlabel("thousand messages a second, steady")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    matplotlib.rcParams["svg.hashsalt"] = "k2"  # else the picture differs each time it is drawn
    figure.savefig(_PLOT, metadata={"Date": None})


def _freshness(result: dict[str, Any]) -> str:
    rows = [
        [f"{int(pace):,}", f"{each['p50_seconds']:.1f}", f"{each['p99_seconds']:.1f}", f"{each['messages']:,}"]
        for pace, each in result["paces_per_second"].items()
    ]
    interval = result["sensor_interval_seconds"]
    said = f"""
From sent to visible in SQL, seconds, under a daemon whose Kafka sensor looks every {interval} s. A shorter interval is
fresher and starts more runs; each costs about three CPU-seconds to start.
"""
    table = _table(["messages/s", "p50", "p99", "messages"], rows)
    return f"{_heading('Freshness', 'bench-freshness', result)}{said}\n{table}"


def _bars(result: dict[str, Any]) -> str:
    named = {
        "trades": "`trades`: clean, sort, gate, publish",
        "bare_trades": "bare read, sort, hash, write by Polars",
        "trades_checks": "checks of `trades`",
        "bars": "all bars: read, compute, gate, publish",
        "duckdb_bars": "the same bars by plain DuckDB",
        "bars_checks": "checks of all bars",
    }
    rows = [
        [text, f"{once['wall_seconds']:.1f}", f"{once['cpu_seconds']:.1f}", f"{once['peak_rss_bytes'] / 1e9:.2f}"]
        for name, text in named.items()
        if (once := result.get(name))
    ]
    heads = [f"{result['messages']:,} messages, {result['symbols']:,} symbols", "wall s", "CPU s", "peak GB"]
    return f"{_heading('A large day', 'bench-bars', result)}\n{_table(heads, rows)}"


def _query(result: dict[str, Any]) -> str:
    rows = [
        [name.replace("_", " "), f"{each['k2_ms']:.0f}", f"{each['duckdb_ms']:.0f}", f"{each['k2_to_duckdb']:.2f}"]
        for name, each in result["questions"].items()
    ]
    total = result["days"] * result["trades_a_day"]
    heads = [f"{result['days']} days, {total:,} trades", "K2, ms", "DuckDB on the right files, ms", "ratio"]
    return f"{_heading('Questions', 'bench-query', result)}\n{_table(heads, rows)}"


def _history(result: dict[str, Any]) -> str:
    heads = ["days", "trades a day", "seconds", "runs", "check results", "peak GB of a process"]
    row = [result["days"], f"{result['trades_a_day']:,}", result["seconds"], result["runs"], result["check_results"]]
    rows = [[*map(str, row), f"{result['peak_rss_bytes_of_a_process'] / 1e9:.2f}"]]
    return f"{_heading('A history', 'bench-history', result)}\n{_table(heads, rows)}"


def _growth(result: dict[str, Any]) -> str:
    rows = [
        [
            f"{each['commits']:,}",
            f"{each['days']:,}",
            *(f"{each[f'{name}_seconds'] * 1000:.0f} ({each[f'{name}_cpu_seconds'] * 1000:.0f})" for name in _GROWING),
            f"{each['memory_bytes'] / 1e6:.0f}",
        ]
        for each in result["measured"]
    ]
    heads = ["commits", "days", "commit ms (CPU)", "plan ms (CPU)", "tick ms (CPU)", "memory MB"]
    return f"{_heading('Growth', 'bench-growth', result)}\n{_table(heads, rows)}"


_GROWING = ("commit", "plan", "tick")


def _start(result: dict[str, Any]) -> str:
    rows = [
        [f"`k2 {name}`", f"{result[key]['wall_seconds']:.2f}", f"{result[key]['cpu_seconds']:.2f}"]
        for name, key in (("--help", "help"), ("bars", "bars"))
    ]
    return f"{_heading('Starting', 'bench-start', result)}\n{_table(['command', 'wall s', 'CPU s'], rows)}"


_SECTIONS = {
    "ingest": _ingest,
    "freshness": _freshness,
    "bars": _bars,
    "query": _query,
    "history": _history,
    "growth": _growth,
    "start": _start,
}


def _heading(title: str, command: str, result: dict[str, Any]) -> str:
    machine = result["machine"]
    return (
        f"## {title}\n\n`make {command}`: {machine['processor']}, {machine['cores']} cores, load "
        f"{machine['load_average_1m']}, Python {machine['python']}, {result['ended'][:10]}, commit "
        f"{machine['k2_commit']}.\n"
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    aligned = ["---", *("--:" for _ in heads[1:])]
    return "".join(f"| {' | '.join(row)} |\n" for row in (heads, aligned, *rows))


def _path(name: str) -> Path:
    return RESULTS / f"{name}.json"


def _result(name: str) -> dict[str, Any]:
    return dict(json.loads(_path(name).read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
