-- Departures from New York's three airports in 2013: see README.md for where the data comes from.

-- One event per scheduled flight. event_time is the scheduled departure (UTC). A flight that was cancelled has no
-- dep_delay. Delays and air time are in minutes, distance in miles, sched_dep_time is the local time as HHMM.
CREATE STREAM flights (
  event_time TIMESTAMP NOT NULL,
  carrier TEXT NOT NULL,
  flight BIGINT,
  origin TEXT NOT NULL,
  dest TEXT NOT NULL,
  dep_delay BIGINT,
  distance BIGINT,
  tailnum TEXT,
  sched_dep_time BIGINT,
  arr_delay BIGINT,
  air_time BIGINT,
  WATERMARK FOR event_time AS event_time - INTERVAL '1 hour'
) WITH (partitions = 2, partition_by = 'origin');

CREATE TABLE airlines (carrier TEXT, name TEXT) WITH (path = 'airlines.csv');

CREATE TABLE planes (
  tailnum TEXT, year BIGINT, type TEXT, manufacturer TEXT, model TEXT, engines BIGINT, seats BIGINT, speed BIGINT,
  engine TEXT
) WITH (path = 'planes.csv');

-- Hourly observations at the three airports; the columns are the file's.
CREATE TABLE weather WITH (path = 'weather.parquet');

-- How late the airlines leave.
CREATE MATERIALIZED VIEW delays_by_airline AS
SELECT a.name, count(*) AS flights, avg(f.dep_delay) AS mean_delay, max(f.dep_delay) AS worst
FROM flights f JOIN airlines a USING (carrier)
WHERE f.dep_delay IS NOT NULL
GROUP BY a.name;

-- What each airport did each day (UTC). Cancelled flights count as scheduled, not as departed.
CREATE MATERIALIZED VIEW days AS
SELECT date_trunc('day', event_time) AS day,
       origin,
       count(*) AS scheduled,
       count(dep_delay) AS departed,
       sum(dep_delay) AS delay_minutes
FROM flights
GROUP BY 1, 2;

-- Exactly how many different aircraft each airline used.
CREATE MATERIALIZED VIEW fleets AS
SELECT a.name, count(DISTINCT f.tailnum) AS aircraft, count(*) AS flights
FROM flights f JOIN airlines a USING (carrier)
WHERE f.dep_delay IS NOT NULL
GROUP BY a.name;

-- Routes with ten departures a day or more. HAVING belongs to finish: the states of all routes are kept, so that a
-- route may cross the line at any time.
CREATE MATERIALIZED VIEW busy_routes AS
SELECT origin, dest, count(*) AS departures, avg(air_time) AS mean_air_time, max(distance) AS miles
FROM flights
WHERE dep_delay IS NOT NULL
GROUP BY origin, dest
HAVING count(*) >= 3650;

-- Who built the aircraft, and how many seats left New York in them.
CREATE MATERIALIZED VIEW manufacturers AS
SELECT p.manufacturer, count(DISTINCT p.tailnum) AS aircraft, count(*) AS departures, sum(p.seats) AS seats
FROM flights f JOIN planes p USING (tailnum)
WHERE f.dep_delay IS NOT NULL
GROUP BY p.manufacturer;

-- Does fog delay? Visibility in whole miles at the scheduled hour of departure.
CREATE MATERIALIZED VIEW delays_by_visibility AS
SELECT CAST(floor(w.visib) AS BIGINT) AS miles,
       count(*) AS scheduled,
       count(*) - count(f.dep_delay) AS cancelled,
       avg(f.dep_delay) AS mean_delay
FROM flights f JOIN weather w ON w.origin = f.origin AND w.time_hour = date_trunc('hour', f.event_time)
GROUP BY 1;

-- No aggregate: the view keeps the rows themselves, forty in the whole year.
CREATE MATERIALIZED VIEW extreme_delays AS
SELECT event_time, carrier, flight, origin, dest, dep_delay
FROM flights
WHERE dep_delay > 600;

-- A plain view keeps nothing: it is computed from delays_by_airline when it is asked for.
CREATE VIEW punctuality AS
SELECT rank() OVER (ORDER BY mean_delay) AS place, name, flights, mean_delay
FROM delays_by_airline;
