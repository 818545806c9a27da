"""Gathers what verification compares: broker, ledger, snapshots, files and rows, each read on its own.

The judgement is in ``k2_market.verification``. Start with ``ledger_proof``.
"""
