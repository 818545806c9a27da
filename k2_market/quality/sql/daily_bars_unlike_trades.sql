-- Compares a day's daily bars with what its trades give: sums by symbol, and the prices of the first and the last trade.
-- Reads:   daily_bars (BARS), trades (TRADES)
-- Makes:   one row: symbols, different, wrong (up to $examples of symbol, column, bar, trades)
WITH
outer_prices AS (
    SELECT symbol, arg_min(price, trade_order) AS open, arg_max(price, trade_order) AS close
    FROM trades
    WHERE price_eligible
    GROUP BY symbol
),
sums AS (
    SELECT
        symbol,
        max(price) FILTER (price_eligible) AS high,
        min(price) FILTER (price_eligible) AS low,
        coalesce(sum(quantity) FILTER (volume_eligible), 0) AS volume,
        -- widened first: the product of two decimals of 18 digits overflows
        coalesce(sum(price::DECIMAL(28, 10) * quantity) FILTER (price_eligible), 0) AS notional,
        coalesce(sum(quantity) FILTER (price_eligible), 0) AS priced_volume,
        count(*) FILTER (volume_eligible) AS trade_count,
        count(*) FILTER (price_eligible) AS priced_count
    FROM trades
    WHERE price_eligible OR volume_eligible
    GROUP BY symbol
),
compared AS (
    SELECT
        coalesce(bar.symbol, sums.symbol) AS symbol,
        unnest([
            {'column': 'open', 'differs': bar.open IS DISTINCT FROM outer_prices.open,
                'bar': bar.open::VARCHAR, 'trades': outer_prices.open::VARCHAR},
            {'column': 'high', 'differs': bar.high IS DISTINCT FROM sums.high,
                'bar': bar.high::VARCHAR, 'trades': sums.high::VARCHAR},
            {'column': 'low', 'differs': bar.low IS DISTINCT FROM sums.low,
                'bar': bar.low::VARCHAR, 'trades': sums.low::VARCHAR},
            {'column': 'close', 'differs': bar.close IS DISTINCT FROM outer_prices.close,
                'bar': bar.close::VARCHAR, 'trades': outer_prices.close::VARCHAR},
            {'column': 'volume', 'differs': bar.volume IS DISTINCT FROM sums.volume,
                'bar': bar.volume::VARCHAR, 'trades': sums.volume::VARCHAR},
            {'column': 'notional', 'differs': bar.notional IS DISTINCT FROM sums.notional,
                'bar': bar.notional::VARCHAR, 'trades': sums.notional::VARCHAR},
            {'column': 'priced_volume', 'differs': bar.priced_volume IS DISTINCT FROM sums.priced_volume,
                'bar': bar.priced_volume::VARCHAR, 'trades': sums.priced_volume::VARCHAR},
            {'column': 'trade_count', 'differs': bar.trade_count IS DISTINCT FROM sums.trade_count,
                'bar': bar.trade_count::VARCHAR, 'trades': sums.trade_count::VARCHAR},
            {'column': 'priced_count', 'differs': bar.priced_count IS DISTINCT FROM sums.priced_count,
                'bar': bar.priced_count::VARCHAR, 'trades': sums.priced_count::VARCHAR}
        ], recursive := true)
    FROM daily_bars AS bar
    FULL JOIN sums ON sums.symbol = bar.symbol
    LEFT JOIN outer_prices ON outer_prices.symbol = sums.symbol
)
SELECT
    count(DISTINCT symbol) AS symbols,
    count(DISTINCT symbol) FILTER (differs) AS different,
    min(
        {'symbol': symbol, 'column': "column", 'bar': coalesce(bar, 'none'), 'trades': coalesce(trades, 'none')},
        $examples
    ) FILTER (differs) AS wrong
FROM compared
