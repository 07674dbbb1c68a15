-- Nexmark: an auction house. See README.md for how to make events, and docs/nexmark.md for what each query keeps.

-- Names without quotes are lower case, here and in the queries: in JSON the keys are emailaddress, datetime, ….

CREATE STREAM person (
  id BIGINT NOT NULL,
  name TEXT,
  emailAddress TEXT,
  creditCard TEXT,
  city TEXT,
  state TEXT,
  dateTime TIMESTAMP(3) NOT NULL,
  extra TEXT,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '4' SECOND
) WITH (partitions = 2, partition_by = 'id');

CREATE STREAM auction (
  id BIGINT NOT NULL,
  itemName TEXT,
  description TEXT,
  initialBid BIGINT,
  reserve BIGINT,
  dateTime TIMESTAMP(3) NOT NULL,
  expires TIMESTAMP(3),
  seller BIGINT,
  category BIGINT,
  extra TEXT,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '4' SECOND
) WITH (partitions = 2, partition_by = 'id');

CREATE STREAM bid (
  auction BIGINT NOT NULL,
  bidder BIGINT,
  price BIGINT,
  channel TEXT,
  url TEXT,
  dateTime TIMESTAMP(3) NOT NULL,
  extra TEXT,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '4' SECOND
) WITH (partitions = 2, partition_by = 'auction');

-- What q13 looks up: every twentieth key of 0 to 9999.
CREATE TABLE side_input (key BIGINT, value TEXT) WITH (path = 'side_input.csv');
