"""Kinds of raw tables: what is K2's alike for trades, quotes and later kinds, and where they differ.

``raw_kind`` says what a kind declares; each kind has a module of its own (``trades``), and ``shipped`` lists them. A
feed's family of assets is made for a kind, and hands it down; what a kind does not declare holds for all of them. How
messages are decoded belongs to ``messages``, and rules of one table to ``quality``. Start with ``raw_kind``.
"""
