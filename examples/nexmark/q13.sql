-- Bounded side input join: bids enriched from a table.
--
-- As published, the table is looked up FOR SYSTEM_TIME AS OF PROCTIME(). Here a table is the same for all events, and a
-- table that changes makes the view anew. MOD(a, b) is a % b in DataFusion.
CREATE MATERIALIZED VIEW q13 AS
SELECT
    B.auction,
    B.bidder,
    B.price,
    B.dateTime,
    S.`value`
FROM bid B
JOIN side_input AS S
ON B.auction % 10000 = S.key;
