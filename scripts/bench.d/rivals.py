"""What others do on the same events, in an environment that has them.

    rivals.py batch  duckdb|polars|spark  ARCHIVE CAMPAIGNS RUNS
    rivals.py stream spark|flink          EVENTS WARMUP CAMPAIGNS SCRATCH RUNS

ARCHIVE is a directory of Parquet files, EVENTS and WARMUP are directories of ndjson. Prints one line of JSON for each
measurement: what, run, seconds on the clock, processor seconds of this process and its children, peak memory in bytes.
The first run warms up and is not told.
"""

import json
import os
import pathlib
import shutil
import sys
import time

CAMPAIGN_VIEWS = "campaigns_10s"
USERS = "users"


def processes():
    """This process and all that it has started."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = pathlib.Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            parents[int(entry)] = int(stat.rsplit(")", 1)[1].split()[1])
    all_of = {os.getpid()}
    while True:
        more = {child for child, parent in parents.items() if parent in all_of} - all_of
        if not more:
            return all_of
        all_of |= more


def cpu():
    seconds = 0.0
    for process in processes():
        try:
            fields = pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        seconds += sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    return seconds


def peak():
    total = 0
    for process in processes():
        try:
            for line in pathlib.Path(f"/proc/{process}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            continue
    return total


def measure(what, runs, work):
    for run in range(runs + 1):
        before, started = cpu(), time.monotonic()
        rows = work(run)
        wall, spent = time.monotonic() - started, cpu() - before
        if run:
            told = {"what": what, "run": run, "wall": wall, "cpu": spent, "peak": peak(), "rows": rows}
            print(json.dumps(told), flush=True)


CAMPAIGNS_SQL = """SELECT c.campaign_id, {window} AS w, count(*) AS views, max(e.event_time) AS last
FROM events e JOIN campaigns c ON e.ad_id = c.ad_id WHERE e.event_type = 'view' GROUP BY 1, 2"""
USERS_SQL = "SELECT user_id, count(*) AS n, {distinct} AS pages FROM events GROUP BY user_id"


def batch_duckdb(archive, campaigns, runs):
    import duckdb

    db = duckdb.connect()
    db.execute(f"CREATE TABLE campaigns AS SELECT * FROM read_csv('{campaigns}')")
    db.execute(f"CREATE VIEW events AS SELECT * FROM read_parquet('{archive}/*.parquet')")
    # To the end of the query, its result as Arrow would be: into a table that is dropped again.
    for what, sql in [
        (CAMPAIGN_VIEWS, CAMPAIGNS_SQL.format(window="time_bucket(INTERVAL '10 seconds', e.event_time)")),
        (USERS, USERS_SQL.format(distinct="approx_count_distinct(page_id)")),
    ]:
        def work(_, sql=sql):
            db.execute(f"CREATE OR REPLACE TEMP TABLE result AS {sql}")
            return db.execute("SELECT count(*) FROM result").fetchone()[0]

        measure(what, runs, work)


def batch_polars(archive, campaigns, runs):
    import polars as pl

    ads = pl.read_csv(campaigns)

    def windowed(_):
        events = pl.scan_parquet(f"{archive}/*.parquet").filter(pl.col("event_type") == "view")
        windowed = events.join(ads.lazy(), on="ad_id").group_by(
            "campaign_id", pl.col("event_time").dt.truncate("10s").alias("w")
        )
        return windowed.agg(pl.len().alias("views"), pl.col("event_time").max().alias("last")).collect(
            engine="streaming"
        ).height

    def users(_):
        events = pl.scan_parquet(f"{archive}/*.parquet").group_by("user_id")
        return events.agg(pl.len().alias("n"), pl.col("page_id").approx_n_unique().alias("pages")).collect(
            engine="streaming"
        ).height

    measure(CAMPAIGN_VIEWS, runs, windowed)
    measure(USERS, runs, users)


def spark_session():
    from pyspark.sql import SparkSession

    cores = os.cpu_count()
    session = (
        SparkSession.builder.master(f"local[{cores}]")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.memory", "8g")
        .config("spark.sql.shuffle.partitions", str(cores))
        .config("spark.sql.session.timeZone", "UTC")
        # The files have nanoseconds, for which it has no type.
        .config("spark.sql.legacy.parquet.nanosAsLong", "true")
        .config("spark.sql.streaming.stateStore.providerClass",
                "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    return session


def batch_spark(archive, campaigns, runs):
    spark = spark_session()
    spark.read.csv(campaigns, header=True).cache().createOrReplaceTempView("campaigns")
    spark.read.parquet(archive).createOrReplaceTempView("events")
    for what, sql in [
        (CAMPAIGN_VIEWS, CAMPAIGNS_SQL.format(window="window(timestamp_micros(e.event_time div 1000), '10 seconds')")),
        (USERS, USERS_SQL.format(distinct="approx_count_distinct(page_id)")),
    ]:
        def work(_, sql=sql):
            spark.sql(sql).write.format("noop").mode("overwrite").save()

        measure(what, runs, work)


def stream_spark(events, warmup, campaigns, scratch, runs):
    spark = spark_session()
    ads = spark.read.csv(campaigns, header=True).cache()
    schema = "user_id STRING, page_id STRING, ad_id STRING, ad_type STRING, event_type STRING, event_time LONG, ip_address STRING"

    def run(of, what, number):
        source = spark.readStream.schema(schema).option("maxFilesPerTrigger", 2).json(of)
        timed = source.selectExpr("*", "timestamp_millis(event_time) AS t").withWatermark("t", "5 seconds")
        if what == CAMPAIGN_VIEWS:
            joined = timed.where("event_type = 'view'").join(ads, "ad_id")
            from pyspark.sql.functions import count, max, window

            result = joined.groupBy("campaign_id", window("t", "10 seconds")).agg(count("*"), max("t"))
        else:
            from pyspark.sql.functions import approx_count_distinct, count

            result = timed.groupBy("user_id").agg(count("*"), approx_count_distinct("page_id"))
        checkpoint = f"{scratch}/spark-{what}-{number}"
        shutil.rmtree(checkpoint, ignore_errors=True)
        query = (
            result.writeStream.outputMode("update").format("noop").trigger(availableNow=True)
            .option("checkpointLocation", checkpoint).start()
        )
        query.awaitTermination()
        rows = sum(progress["numInputRows"] for progress in query.recentProgress)
        shutil.rmtree(checkpoint, ignore_errors=True)
        return rows

    for what in [CAMPAIGN_VIEWS, USERS]:
        measure(what, runs, lambda number, what=what: run(events if number else warmup, what, number))


def stream_flink(events, warmup, campaigns, scratch, runs):
    from pyflink.table import EnvironmentSettings, TableEnvironment

    def run(of, what, number):
        table = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
        set_to = table.get_config().set
        set_to("parallelism.default", str(os.cpu_count()))
        set_to("execution.checkpointing.interval", "1 s")
        set_to("execution.checkpointing.mode", "EXACTLY_ONCE")
        set_to("execution.checkpointing.dir", f"file://{scratch}/flink")
        set_to("state.backend.type", "hashmap")
        set_to("pipeline.object-reuse", "true")
        set_to("taskmanager.memory.process.size", "6g")
        set_to("table.exec.mini-batch.enabled", "true")
        set_to("table.exec.mini-batch.allow-latency", "1 s")
        set_to("table.exec.mini-batch.size", "50000")
        set_to("table.local-time-zone", "UTC")
        table.execute_sql(f"""CREATE TABLE events (user_id STRING, page_id STRING, ad_id STRING, ad_type STRING,
            event_type STRING, event_time BIGINT, ip_address STRING, t AS TO_TIMESTAMP_LTZ(event_time, 3),
            WATERMARK FOR t AS t - INTERVAL '5' SECOND)
            WITH ('connector' = 'filesystem', 'path' = 'file://{of}', 'format' = 'json')""")
        if what == CAMPAIGN_VIEWS:
            # By advertisement, without the join: one of streams would lose the time attribute, and files cannot be looked
            # up in. So it has less to do.
            table.execute_sql("""CREATE TABLE sink (a STRING, s TIMESTAMP(3), v BIGINT, l TIMESTAMP_LTZ(3))
                WITH ('connector' = 'blackhole')""")
            sql = """INSERT INTO sink SELECT ad_id, window_start, count(*), max(t) FROM TABLE(TUMBLE(TABLE events,
                DESCRIPTOR(t), INTERVAL '10' SECOND)) WHERE event_type = 'view' GROUP BY ad_id, window_start, window_end"""
        else:
            table.execute_sql("CREATE TABLE sink (u STRING, n BIGINT, pages BIGINT) WITH ('connector' = 'blackhole')")
            sql = "INSERT INTO sink SELECT user_id, count(*), count(DISTINCT page_id) FROM events GROUP BY user_id"
        table.execute_sql(sql).wait()

    for what in [CAMPAIGN_VIEWS, USERS]:
        measure(what, runs, lambda number, what=what: run(events if number else warmup, what, number))


def main():
    kind, name, *args = sys.argv[1:]
    *args, runs = args
    globals()[f"{kind}_{name}"](*args, int(runs))


main()
