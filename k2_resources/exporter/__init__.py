"""Gathers what ``/metrics`` shows from durable facts: Kafka, tables, Dagster's records. Start with ``page``."""
