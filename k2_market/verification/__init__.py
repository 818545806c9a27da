"""Recomputes what K2 promises (I1 to I8), with no code of what wrote it.

Never imports ``ledger``, ``frames``, ``trades`` or ``bars``; a contract in ``.importlinter`` holds it to that. Start
with ``invariants``.
"""
