-- Auction top-10 price: the ten highest bids of each auction.
--
-- Bids of the same price tie: end the order in `dateTime, _partition, _offset`, and the choice is yours.
CREATE MATERIALIZED VIEW q19 AS
SELECT * FROM
(SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC) AS rank_number FROM bid)
WHERE rank_number <= 10;
