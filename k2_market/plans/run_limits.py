"""Limits how long a run may take."""

MAX_RUNTIME_SECONDS = 3600
"""A run that takes longer is ended by the daemon, so that it can't hold its feed's pool for ever. No commit is
longer under way, so no file younger than this may be taken for one that nobody will commit."""
