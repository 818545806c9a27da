"""Plans repairs of raw rows: how a day differs from Kafka and ledger, and which dead letters decode now."""
