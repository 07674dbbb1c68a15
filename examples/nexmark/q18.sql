-- Find last bid: of each bidder for each auction.
--
-- Bids of the same millisecond tie: end the order in `_partition, _offset`, and the choice is yours.
CREATE MATERIALIZED VIEW q18 AS
SELECT auction, bidder, price, channel, url, dateTime, extra
 FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY bidder, auction ORDER BY dateTime DESC) AS rank_number
       FROM bid)
 WHERE rank_number <= 1;
