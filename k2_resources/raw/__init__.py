"""Raw tables: rows and the offset ranges they came from, committed together or not at all.

``table`` appends, ``view`` reads one snapshot with its ledger, ``rewrite`` replaces a day, ``repair`` and
``roll_forward`` mend. Start with ``table``.
"""
