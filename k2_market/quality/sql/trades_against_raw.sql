-- Compares the ids of a day's clean trades with those that its messages report.
-- Reads:   raw (RAW_TRADES), trades (TRADES)
-- Makes:   one row: expected, missing, unexpected, repeated, unmatched_cancels,
--          wrong (up to $examples of symbol, trade_id, problem)
WITH RECURSIVE
live AS NOT MATERIALIZED (
    SELECT
        symbol,
        action,
        CASE
            WHEN trade_id <> '' THEN trade_id
            ELSE 'kafka:' || kafka_topic_id || ':' || kafka_partition || ':' || kafka_offset
        END AS trade_id,
        nullif(corrects_trade_id, '') AS corrects
    FROM raw
    WHERE reject_reason IS NULL
),
amendments AS MATERIALIZED (
    SELECT DISTINCT action, symbol, trade_id, coalesce(corrects, trade_id) AS named
    FROM live
    WHERE action IN ('CORRECT', 'CANCEL')
),
-- A correction may name another correction; links lead back to what that one corrects.
links AS MATERIALIZED (
    SELECT symbol, trade_id, min(named) AS leads_to
    FROM amendments
    WHERE action = 'CORRECT' AND named <> trade_id
    GROUP BY symbol, trade_id
),
reported_by_new AS MATERIALIZED (
    SELECT DISTINCT live.symbol, live.trade_id
    FROM live
    WHERE live.action = 'NEW'
        AND (live.symbol, live.trade_id) IN (
            SELECT (symbol, named) FROM amendments
            UNION ALL
            SELECT (symbol, leads_to) FROM links
        )
),
steps AS MATERIALIZED (
    SELECT links.symbol, links.trade_id, links.leads_to
    FROM links ANTI JOIN reported_by_new USING (symbol, trade_id)
),
trail AS (
    SELECT symbol, named, named AS reached
    FROM amendments
    UNION
    SELECT trail.symbol, trail.named, steps.leads_to
    FROM trail JOIN steps ON steps.symbol = trail.symbol AND steps.trade_id = trail.reached
),
-- Where links go round in a circle there is no end; then the amendment is about what it names itself.
origins AS (
    SELECT trail.symbol, trail.named, coalesce(min(trail.reached) FILTER (steps.symbol IS NULL), trail.named) AS trade_id
    FROM trail LEFT JOIN steps ON steps.symbol = trail.symbol AND steps.trade_id = trail.reached
    GROUP BY trail.symbol, trail.named
),
claims AS NOT MATERIALIZED (
    SELECT symbol, trade_id, 1 AS claim, 0 AS present
    FROM live
    WHERE action = 'NEW'
    UNION ALL
    SELECT origins.symbol, origins.trade_id, CASE amendments.action WHEN 'CORRECT' THEN 1 ELSE 2 END, 0
    FROM amendments JOIN origins ON origins.symbol = amendments.symbol AND origins.named = amendments.named
    UNION ALL
    SELECT symbol, trade_id, 0, 1
    FROM trades
),
-- claim 1: a message reports the trade; 2: one cancels it, and nothing reports it; 3: both.
judged AS NOT MATERIALIZED (
    SELECT symbol, trade_id, bit_or(claim) AS claim, sum(present) AS present
    FROM claims
    GROUP BY symbol, trade_id
)
SELECT
    count(*) FILTER (claim = 1) AS expected,
    count(*) FILTER (claim = 1 AND present = 0) AS missing,
    count(*) FILTER (claim <> 1 AND present > 0) AS unexpected,
    count(*) FILTER (claim = 1 AND present > 1) AS repeated,
    count(*) FILTER (claim = 2) AS unmatched_cancels,
    min(
        {
            'symbol': symbol,
            'trade_id': trade_id,
            'problem': CASE WHEN claim <> 1 THEN 'unexpected' WHEN present = 0 THEN 'missing' ELSE 'repeated' END
        },
        $examples
    ) FILTER ((claim = 1)::INTEGER <> present) AS wrong
FROM judged
