"""What starts work or raises the alarm: the Kafka sensor, the stale-day sensor, the run watch, the alerts.

A sensor gathers facts, asks a pure plan from ``k2_market`` and carries it out; it keeps no state of its own.
"""
