"""The domain, pure: no Dagster, no network, no environment, no clock.

Decisions are functions on frozen dataclasses, Arrow tables or Polars frames; whoever calls them reads the clock and
carries them out. A trade's way: ``sources`` or ``simulation`` make it, ``messages`` encodes it for Kafka and decodes it
into raw rows, ``trades`` cleans a day of them, ``bars`` sums it up, ``quality`` checks both, ``verification``
recomputes all of it. ``feeds`` says what an exchange's days and rules are, ``plans`` what is done next.
Start with ``feeds.feed``.
"""
