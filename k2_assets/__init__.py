"""What the platform makes: assets, their checks, partitions, jobs and schedules.

``definitions.build_defs`` is the one place where everything is put together. An asset gets its doors,
calls the domain and reports what it did; rules and arithmetic belong in ``k2_market``.
"""
