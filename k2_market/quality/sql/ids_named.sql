-- A digest of each id that some messages have, or amend.
-- Reads:   messages (RAW_TRADES)
-- Makes:   digest, one or two rows for each message
SELECT
    hash(
        symbol,
        CASE
            WHEN trade_id <> '' THEN trade_id
            ELSE 'kafka:' || kafka_topic_id || ':' || kafka_partition || ':' || kafka_offset
        END
    ) AS digest
FROM messages
UNION ALL
SELECT hash(symbol, corrects_trade_id) FROM messages WHERE corrects_trade_id <> ''
