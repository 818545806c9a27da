"""Quality rules: each looks at a day of one table and returns a ``Finding``.

``raw_rules``, ``trade_rules``, ``bar_rules`` hold the rules of a table; ``sql/`` the statements of those that are asked
in SQL. Which checks block is said in ``k2_assets.checks``. Start with ``finding``.
"""
