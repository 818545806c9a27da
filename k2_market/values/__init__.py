"""Single values: which texts are symbols, and how texts, units and times of messages and files are written.

Nothing that knows a feed or a table. Start with ``symbols``.
"""
