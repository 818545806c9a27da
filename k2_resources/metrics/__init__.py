"""Metrics: declared once in ``registry``; ``figures`` collects values, ``event_counts`` counts alerts and retries.

What gathers figures for Prometheus is in ``exporter``.
"""
