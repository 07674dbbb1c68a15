-- Add channel id: a number for each bid's channel, from its name or from the address.
--
-- REGEXP_EXTRACT(text, pattern, 2) is regexp_match(text, pattern)[2] in DataFusion.
CREATE MATERIALIZED VIEW q21 AS
SELECT
    auction, bidder, price, channel,
    CASE
        WHEN lower(channel) = 'apple' THEN '0'
        WHEN lower(channel) = 'google' THEN '1'
        WHEN lower(channel) = 'facebook' THEN '2'
        WHEN lower(channel) = 'baidu' THEN '3'
        ELSE regexp_match(url, '(&|^)channel_id=([^&]*)')[2]
        END
    AS channel_id FROM bid
    where regexp_match(url, '(&|^)channel_id=([^&]*)')[2] is not null or
          lower(channel) in ('apple', 'google', 'facebook', 'baidu');
