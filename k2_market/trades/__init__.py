"""A raw day made into clean trades: cancels, corrections, duplicates (``cleaning``), and their order (``order``).

Rules that check the result are in ``quality``; what recomputes it is in ``verification``.
"""
