"""Accounts for what was loaded into a feed, taken back and amended: decisions on the records of loads.

The records themselves are kept by ``k2_resources.kafka.load_records``. Start with ``loads``.
"""
