-- The last trading day with bars before some days, and the first one after them.
SELECT
    max(trade_date) FILTER (WHERE trade_date < $first) AS earlier,
    min(trade_date) FILTER (WHERE trade_date > $last) AS later
FROM bars
