-- The trading days nearest to one on which a symbol has bars.
SELECT DISTINCT trade_date
FROM bars
WHERE symbol = $symbol
ORDER BY abs(trade_date - $first), trade_date
LIMIT 3
