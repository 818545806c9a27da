"""Offset ranges, and the ledger that says which of them a raw table holds.

What verification reads of a ledger is in ``verification``, with code of its own. Start with ``offset_ranges``.
"""
