"""A feed's file, read and checked, and what follows from it: calendar, trading days, conditions, scope of ids.

The feeds that ship lie in ``shipped/``, a TOML file each. Start with ``feed``, then ``trading_calendar``.
"""
