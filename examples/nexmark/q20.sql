-- Expand bid with auction: the bids for auctions of category 10, with all that is known of these.
CREATE MATERIALIZED VIEW q20 (
    auction, bidder, price, channel, url, bid_dateTime, bid_extra,
    itemName, description, initialBid, reserve, auction_dateTime, expires, seller, category, auction_extra
) AS
SELECT
    auction, bidder, price, channel, url, B.dateTime, B.extra,
    itemName, description, initialBid, reserve, A.dateTime, expires, seller, category, A.extra
FROM
    bid AS B INNER JOIN auction AS A on B.auction = A.id
WHERE A.category = 10;
