"""Apache Iceberg's Kafka Connect sink, run without Docker beside K2."""
