"""Files of trades: one reader a format, all to the same frame (``trade``), each refusal by file, row and column.

Opening files is in ``k2_resources.files``. Start with ``csv``.
"""
