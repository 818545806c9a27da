"""This process: retries, reading ahead, garbage collection, Arrow's memory, crash points of the fault suite."""
