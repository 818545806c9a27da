"""What starts work or raises the alarm: sensors of topics, of days to build or to check, of dead runs, and alerts.

A sensor gathers facts, asks a pure plan from ``k2_market`` and carries it out; it keeps no state of its own
but how far it has told.
"""
