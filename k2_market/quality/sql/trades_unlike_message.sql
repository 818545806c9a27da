-- Finds clean trades that do not say what the raw row at their offset says.
-- Reads:   raw (RAW_TRADES), trades (TRADES)
-- Makes:   one row: unlike_message, wrong (up to $examples of symbol, trade_id, problem)
SELECT
    count(*) AS unlike_message,
    min({'symbol': symbol, 'trade_id': trade_id, 'problem': 'unlike its message'}, $examples) AS wrong
FROM trades
ANTI JOIN (SELECT * FROM raw WHERE reject_reason IS NULL) AS message
    ON message.kafka_partition = trades.kafka_partition
    AND message.kafka_offset = trades.kafka_offset
    AND message.kafka_topic_id = trades.kafka_topic_id
    AND message.symbol = trades.symbol
    AND message.price = trades.price
    AND message.quantity = trades.quantity
    AND message.conditions = trades.conditions
