-- Auction statistics report: what was bid for each auction in a day.
CREATE MATERIALIZED VIEW q17 AS
SELECT
     auction,
     DATE_FORMAT(dateTime, '%Y-%m-%d') as `day`,
     count(*) AS total_bids,
     count(*) filter (where price < 10000) AS rank1_bids,
     count(*) filter (where price >= 10000 and price < 1000000) AS rank2_bids,
     count(*) filter (where price >= 1000000) AS rank3_bids,
     min(price) AS min_price,
     max(price) AS max_price,
     avg(price) AS avg_price,
     sum(price) AS sum_price
FROM bid
GROUP BY auction, DATE_FORMAT(dateTime, '%Y-%m-%d');
