"""Dagster resources, and what keeps Dagster's own records: storage, retention, who automates a home."""
