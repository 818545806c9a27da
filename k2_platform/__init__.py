"""Composition: the definitions that Dagster loads, and the work that needs assets, sensors and clients together.

Start with ``definitions``; ``catch_up`` carries out in one process what the daemon would.
"""
