"""Defines what the platform makes: assets, their checks, jobs and schedules, one family a feed.

Thin shells: what a day's trades, bars and findings are is decided in ``k2_market``. ``records`` reads and writes what
Dagster knows of runs. Start with ``feed_family``.
"""
