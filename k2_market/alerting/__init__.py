"""What a person is alerted to, once each: findings and failures (``alerts``), alarms of ingestion (``ingest_alarms``).

Sending is in ``k2_resources.alerts``, asking in ``k2_sensors``.
"""
