"""Questions to the tables in SQL, through DuckDB, sealed to everything else. Start with ``views``."""
