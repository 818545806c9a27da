"""What the figures in the documents come from, one command each.

A benchmark makes its own data, the same each time, measures K2's real code beside the limit of the same work, and
writes ``benchmarks/results/<name>.json``. Nothing here is imported by K2, and no test waits for a time.
"""
