-- Calculation: bids of some price, with the time of day, and how often the letter c is in `extra`.
--
-- HOUR(t) is date_part('hour', t) in DataFusion, and count_char, which Nexmark writes in Java, is a difference of
-- lengths.
CREATE MATERIALIZED VIEW q14 AS
SELECT
    auction,
    bidder,
    0.908 * price as price,
    CASE
        WHEN date_part('hour', dateTime) >= 8 AND date_part('hour', dateTime) <= 18 THEN 'dayTime'
        WHEN date_part('hour', dateTime) <= 6 OR date_part('hour', dateTime) >= 20 THEN 'nightTime'
        ELSE 'otherTime'
    END AS bidTimeType,
    dateTime,
    extra,
    length(extra) - length(replace(extra, 'c', '')) AS c_counts
FROM bid
WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000;
