"""The ``k2`` command and the local stack that it runs.

Commands parse words and print answers; what they do is done by the rooms below.
"""
