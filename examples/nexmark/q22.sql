-- Get URL directories: the first three.
--
-- SPLIT_INDEX counts from 0, split_part from 1.
CREATE MATERIALIZED VIEW q22 AS
SELECT
    auction, bidder, price, channel,
    split_part(url, '/', 4) as dir1,
    split_part(url, '/', 5) as dir2,
    split_part(url, '/', 6) as dir3 FROM bid;
