-- Selection: the bids for every 123rd auction.
--
-- MOD(a, b) is a % b in DataFusion.
CREATE MATERIALIZED VIEW q2 AS
SELECT auction, price FROM bid WHERE auction % 123 = 0;
