-- Log to file system: every bid with its day and minute. The sink that writes the files is left out; the archive
-- keeps every bid as Parquet anyway.
--
-- Patterns of DATE_FORMAT are those of DataFusion: '%Y-%m-%d' for 'yyyy-MM-dd', '%H:%M' for 'HH:mm'.
CREATE MATERIALIZED VIEW q10 (auction, bidder, price, dateTime, extra, dt, hm) AS
SELECT auction, bidder, price, dateTime, extra, DATE_FORMAT(dateTime, '%Y-%m-%d'), DATE_FORMAT(dateTime, '%H:%M')
FROM bid;
