"""Arrow tables and Polars frames as such: parts, batches, repeated keys, comparison.

Nothing here knows what a trade is. Start with ``day_batches``.
"""
