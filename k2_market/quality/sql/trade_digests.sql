-- A digest of each trade's id, in the order of the rows.
-- Reads:   trades (symbol, trade_id)
-- Makes:   digest, a row for each trade
SELECT hash(symbol, trade_id) AS digest FROM trades
