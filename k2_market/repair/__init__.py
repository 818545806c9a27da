"""What a repair of raw rows goes by: how a day differs from Kafka and ledger, and which dead letters decode now."""
