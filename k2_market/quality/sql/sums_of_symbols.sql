-- Sums up the eligible trades of each symbol, and tells whether a bar's sums may be too large for their columns.
-- Reads:   trades (TRADES: symbol, price, quantity, price_eligible, volume_eligible)
-- Makes:   a row a symbol: symbol, trades, notional and volume (rounded), too_large
SELECT
    symbol,
    count(*) AS trades,
    -- Rounded on purpose: the exact sums are those that do not fit. Bars of either sign may not add up to less.
    coalesce(sum(abs(price::DOUBLE * quantity::DOUBLE)) FILTER (price_eligible), 0) AS notional,
    sum(abs(quantity::DOUBLE)) AS volume,
    notional >= 1e20 * (1 - 1e-9) OR volume >= 1e30 * (1 - 1e-9) AS too_large
FROM trades
WHERE price_eligible OR volume_eligible
GROUP BY symbol
ORDER BY symbol
