"""The local stack: Kafka, registry, Dagster and exporter as processes on loopback, without containers.

Start with ``local_stack``; ``process_supervision`` starts, recognises and stops each.
"""
