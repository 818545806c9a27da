"""Names the keys that a commit of rows writes into its snapshot's summary."""

BATCH_ID = "k2.batch-id"
"""The commit's own id, by which an unknown outcome is settled."""

RANGES = "k2.ranges"
"""The offset ranges that the commit adds to the ledger, as JSON."""

MESSAGES = "k2.messages"
"""Number of messages in those ranges."""

RUN_ID = "k2.run-id"
"""The Dagster run that committed."""

DAYS = "k2.days"
"""Rows for each trading day, as JSON."""
