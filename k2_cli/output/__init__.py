"""Formats answers: tables and charts for people; CSV, JSON and Parquet for programs. No command, no question."""
