"""The doors to the outside: Kafka, schema registry, Iceberg, DuckDB, alert sinks, metrics, logs, settings.

A door knows how to reach one thing and maps its errors to ours; what should be done is decided in
``k2_market``. Dagster resources here hand out plain objects.
"""
