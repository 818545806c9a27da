"""Where the repository under test lies."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SHIPPED_FEEDS = REPOSITORY / "k2_market" / "feeds" / "shipped"
