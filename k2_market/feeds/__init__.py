"""A feed's file, read and checked, and what follows from it: calendar, trading days, conditions, scope of ids.

Shipped feeds lie in ``feeds/``. Start with ``feed``, then ``trading_calendar``.
"""
