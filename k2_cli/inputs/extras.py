"""Names the extra of the package that commands need which do more than read."""

NEEDS_EXTRA = (
    "it comes with K2's extra `platform`: pip install 'k2-market-data[platform]', or `make setup` in a checkout"
)
