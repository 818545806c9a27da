-- A symbol's bars on some trading days, in time order.
SELECT
    trade_date, symbol, bar_start, bar_end,
    open, high, low, close, volume, vwap,
    notional, priced_volume, trade_count, priced_count
FROM bars
WHERE symbol = $symbol
  AND trade_date BETWEEN $first AND $last
ORDER BY bar_start
