"""Structured logs: one JSON object a line, in one file of all processes. Start with ``structured_logging``."""
