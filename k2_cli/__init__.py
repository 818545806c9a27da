"""The ``k2`` command.

``commands`` has a module a command, ``inputs`` what they take, ``output`` how answers are shown, ``stack`` the local
stack that ``k2 up`` starts, ``homes`` backup and restore. Start with ``main``.
"""
