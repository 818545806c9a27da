"""Files and directories of this machine: private, copied, named for SQLAlchemy and Iceberg, or read as sources."""
