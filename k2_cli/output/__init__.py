"""How answers are shown: tables and charts for people; CSV, JSON and Parquet for programs. No command, no question."""
