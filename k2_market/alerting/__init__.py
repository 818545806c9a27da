"""Decides on alerts to a person, once each: findings and failures (``alerts``), alarms (``ingest_alarms``).

Sending is in ``k2_resources.alerts``, asking in ``k2_sensors``.
"""
