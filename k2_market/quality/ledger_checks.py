"""Names the checks that every raw table has; kept apart from their rules, which take long to import."""

LEDGER_VERIFIED = "ledger_verified"
OFFSETS_RECONCILE = "offsets_reconcile"
LEDGER_CHECKS = {
    LEDGER_VERIFIED: "Snapshots and ledger fit together, and every file of the day is there.",
    OFFSETS_RECONCILE: "Every offset in the ledger is a row exactly once, and every row's offset is in the ledger.",
}
"""Statements of the ledger checks. Both block the tables that are made of the raw one."""
