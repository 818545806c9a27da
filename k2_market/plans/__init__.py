"""Plans what is done next: which offsets to ingest, which days to build, which files to compact or to delete.

Each plan is a function of facts. Sensors and commands gather the facts and carry a plan out. Start with
``ingest_plan``, then ``build_plan``.
"""
