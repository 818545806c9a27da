-- Every symbol that has a bar on some trading days.
SELECT DISTINCT symbol
FROM bars
WHERE trade_date BETWEEN $first AND $last
ORDER BY symbol
