"""Reads and writes what Dagster knows: partitions, days of a run, its config and process, runs in flight and failed."""
