"""Tables kept small and quick: compaction, day-end tags, files that no table refers to."""
