"""Dagster's UI in a headless Chromium: the pages that show a feed, each left when what it is for can be seen."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

from playwright.sync_api import Locator, Page, expect, sync_playwright

from k2_market.schemas.tables import BAR_INTERVALS

WIDTH, HEIGHT = 1440, 900
TABLES = ("raw_trades", "trades", *(interval.table for interval in BAR_INTERVALS))

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_TIMEOUT_MS = 60_000
_MOST_ZOOMS = 12


def chromium() -> str | None:
    """Where Chromium is, if it is installed."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def browser_page(executable: str, *flags: str) -> Iterator[Page]:
    """A page of a new browser, with Dagster's navigation folded to its icons; ``flags`` are Chromium's own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, headless=True, args=[*_FLAGS, *flags])
        context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        context.add_init_script("localStorage.setItem('dagster-nav-collapsed', 'true')")
        context.set_default_timeout(_TIMEOUT_MS)
        expect.set_options(timeout=_TIMEOUT_MS)
        yield context.new_page()
        browser.close()


def show_asset_graph(page: Page, ui: str, feed: str) -> list[Locator]:
    """Go to a feed's asset graph, made small enough that all of it is in view; the names of its assets."""
    page.goto(f"{ui}/locations/__repository__@k2/asset-groups/{feed}")
    names = [page.get_by_text(table, exact=True).first for table in TABLES]
    expect(names[0]).to_be_visible()
    zoom_out = page.get_by_role("button").filter(has=page.get_by_label("zoom_out"))
    for _ in range(_MOST_ZOOMS):
        if all(map(_is_in_view, names)):
            break
        zoom_out.click()
    return names


def show_check(page: Page, ui: str, asset: str, check: str, day: date) -> None:
    """Go to a check of an asset, and there to one day."""
    page.goto(f"{ui}/assets/{asset}?view=checks&checkDetail={check}")
    tabs = page.get_by_role("tab", name="Partitions")
    expect(tabs).to_have_count(2)  # the asset's, and below it the check's
    tabs.nth(1).click()
    page.get_by_text(day.isoformat(), exact=True).first.click()
    expect(page.get_by_text("Latest execution", exact=True)).to_be_visible()


def show_chart(page: Page, ui: str, asset: str, day: date) -> Locator:
    """Go to a day of a bar table and open its chart; the picture."""
    page.goto(f"{ui}/assets/{asset}?view=partitions&partition={day}")
    row = page.locator("tr").filter(has=page.get_by_text("chart", exact=True))
    row.get_by_text("[Show Markdown]").click()
    chart = page.locator("img[src^='data:image/png']")
    expect(chart).to_be_visible()
    return chart


def _is_in_view(name: Locator) -> bool:
    """Whether an asset's box, which hangs from its name, lies on the canvas, below the page's headings."""
    box = name.bounding_box() if name.count() else None
    return box is not None and box["y"] > 180 and box["y"] + 10 * box["height"] < HEIGHT and box["x"] + 250 < WIDTH
