"""Dagster's UI as a person sees it: a feed's asset graph, a day's checks, a day's chart."""

from collections.abc import Iterator
from datetime import date

import pytest
from dagster_pages import TABLES, browser_page, chromium, show_asset_graph, show_chart, show_check
from playwright.sync_api import Page, expect
from running_stack import RunningStack
from simulated_days import SimulatedDays

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def page(stack: RunningStack) -> Iterator[Page]:
    """A page of a browser; after the stack, so that nobody waits for a browser that is not there in vain."""
    executable = chromium()
    if executable is None:
        pytest.skip("no Chromium is installed (on Debian: apt-get install chromium)")
    with browser_page(executable) as page:
        yield page


def test_a_feeds_asset_graph_shows_every_table(page: Page, stack: RunningStack) -> None:
    names = show_asset_graph(page, stack.ui, "sim")
    assert len(names) == len(TABLES) == 8
    for name in names:
        expect(name).to_be_in_viewport()
    expect(page.get_by_text("2 / 2 Passed").first).to_be_visible()


def test_a_days_checks_show_what_was_found(page: Page, stack: RunningStack, simulated: SimulatedDays) -> None:
    day = date.fromisoformat(simulated.faulty)
    show_check(page, stack.ui, "sim/raw_trades", "sequence_gaps", day)
    for check in ("dead_letters", "duplicate_messages", "offsets_reconcile", "sequence_gaps"):
        expect(page.get_by_text(check, exact=True).first).to_be_visible()
    missing = simulated.planted["gaps"]
    expect(page.get_by_text(f"{missing} sequence numbers are missing", exact=False)).to_be_visible()


def test_a_days_bars_show_their_chart(page: Page, stack: RunningStack, simulated: SimulatedDays) -> None:
    chart = show_chart(page, stack.ui, "sim/ohlcv_1m", date.fromisoformat(simulated.days[2]))
    assert chart.evaluate("image => image.complete && image.naturalWidth") == 960
