-- Processing time windows: how many bids a user makes in ten seconds of the clock.
--
-- As published, the time is PROCTIME(): when the query happens to run, so another one on every run, and refused. The
-- time at which a bid was taken in is stored with it, and gives the same answer for ever.
CREATE MATERIALIZED VIEW q12 AS
SELECT
    bidder,
    count(*) as bid_count,
    date_bin(INTERVAL '10' SECOND, _ingest_time) AS starttime,
    date_bin(INTERVAL '10' SECOND, _ingest_time) + INTERVAL '10' SECOND AS endtime
FROM bid
GROUP BY bidder, date_bin(INTERVAL '10' SECOND, _ingest_time);
