"""Reads what commands take: the feeds that are meant, the home that is there, the trade to amend."""
