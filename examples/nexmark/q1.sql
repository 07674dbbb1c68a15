-- Currency conversion: the price of each bid in euros.
CREATE MATERIALIZED VIEW q1 AS
SELECT
    auction,
    bidder,
    0.908 * price as price, -- convert dollar to euro
    dateTime,
    extra
FROM bid;
