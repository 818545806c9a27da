"""The domain, pure: feeds, calendars, schemas, decoding, offset ranges, bars and quality rules.

What decides lives here, as functions on frozen values and Arrow or Polars frames. Nothing here imports
Dagster, opens a connection, reads the environment or asks a clock: facts come in, values go out.
"""
