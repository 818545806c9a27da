"""A home's own things: which tables it owns, what a backup lists, what becomes of tables that were moved."""
