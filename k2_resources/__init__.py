"""Clients of everything outside the process: Kafka, registry, Iceberg, DuckDB, webhooks, disks, metrics and logs.

They carry out what ``k2_market`` decides, and import nothing but it. A batch's way in: ``kafka`` reads it, ``raw``
commits its rows and offset ranges together, ``iceberg`` holds the tables, ``query`` asks them. Start with ``settings``.
"""
