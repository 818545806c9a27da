"""``make screenshots``: takes the pictures in ``docs/images`` of the stack that runs, after ``k2 demo``.

The asset graph and the checks show the simulated day with its planted faults; the chart is of a real day where the
demo had the ASX data, and of the simulated day elsewhere.
"""

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

from dagster_pages import browser_page, chromium, show_asset_graph, show_chart, show_check
from playwright.sync_api import Page

from k2_resources.settings import Settings

IMAGES = Path(__file__).resolve().parent.parent.parent / "docs" / "images"
_REST_MS = 1_000
"""After which fonts, icons and the dialogs' fading in have come to rest."""


def take_screenshots(ui: str) -> None:
    """Take all pictures of a UI."""
    executable = chromium()
    if executable is None:
        sys.exit("No Chromium was found; on Debian: apt-get install chromium")
    simulated, real = _latest_day("sim"), _latest_day("asx")
    if simulated is None:
        sys.exit("No simulated day has been built; run `k2 demo` first.")
    with browser_page(executable) as page:
        show_asset_graph(page, ui, "sim")
        _save(page, "asset-graph")
        show_check(page, ui, "sim/raw_trades", "sequence_gaps", simulated)
        _save(page, "partition-checks")
        asset, day = ("asx/ohlcv_1m", real) if real is not None else ("sim/ohlcv_1m", simulated)
        show_chart(page, ui, asset, day)
        _save(page, "bar-chart")


def _latest_day(feed: str) -> date | None:
    """The last day of a feed that has bars."""
    statement = f"SELECT max(trade_date)::VARCHAR AS day FROM {feed}.ohlcv_1d"
    k2 = Path(sys.executable).with_name("k2")
    done = subprocess.run(
        [k2, "sql", statement, "--format", "json"], env=os.environ, capture_output=True, text=True, check=False
    )
    day = json.loads(done.stdout)[0]["day"] if done.returncode == 0 else None
    return None if day is None else date.fromisoformat(day)


def _save(page: Page, name: str) -> None:
    page.mouse.move(0, 0)
    page.wait_for_timeout(_REST_MS)
    IMAGES.mkdir(parents=True, exist_ok=True)
    path = IMAGES / f"{name}.png"
    page.screenshot(path=path)
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    take_screenshots(f"http://127.0.0.1:{Settings.load().dagster_port}")
