-- Pass through: what it costs to do nothing with a bid but keep it.
CREATE MATERIALIZED VIEW q0 AS
SELECT auction, bidder, price, dateTime, extra FROM bid;
