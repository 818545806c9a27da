"""Dagster sensors, nothing else: what starts work or raises the alarm.

Each asks a plan of ``k2_market`` and requests what it says. Start with ``kafka_sensor``.
"""
