"""Iceberg tables: the catalog, their files and days, and the transaction that every commit goes through.

Raw tables, whose commits carry a ledger, are in ``raw``. Start with ``catalog``, then ``table_transaction``.
"""
