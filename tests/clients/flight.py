"""What a user of Python does over Arrow Flight SQL, against a running server: python flight.py grpc://HOST:PORT

Prints a line for each thing that was tried: client, version, what, result. Exits 1 if one of them failed.
"""

import datetime
import json
import sys
from importlib.metadata import version

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow
import pyarrow.flight

URL = sys.argv[1]
ADBC = ("adbc_driver_flightsql", version("adbc-driver-flightsql"))
PYARROW = ("pyarrow.flight", pyarrow.__version__)
failed = False


def tried(client, what, check):
    global failed
    try:
        result = check()
    except Exception as error:  # whatever it is, it is the result
        failed, result = True, f"FAILED: {type(error).__name__}: {error}".replace("\n", " ")
    print("\t".join((*client, what, result)), flush=True)


def expect(found, expected):
    assert found == expected, f"expected {expected!r}, found {found!r}"
    return "ok"


def refuses(cursor, sql, kind, part):
    try:
        cursor.execute(sql)
        cursor.fetchall()
    except kind as error:
        assert part in str(error), str(error)
        return "ok"
    raise AssertionError(f"{sql} was not refused")


def rows(cursor, sql, values=None):
    cursor.execute(sql, values)
    return cursor.fetchall()


def many(cursor):
    cursor.execute("SELECT a.value AS x, b.value AS y FROM generate_series(1, 1000) a, generate_series(1, 1000) b")
    batches = list(cursor.fetch_record_batch())
    expect((sum(batch.num_rows for batch in batches), len(batches) > 1), (1_000_000, True))
    return f"ok, in {len(batches)} batches"


def cancelled(connection):
    import threading

    with connection.cursor() as cursor:
        sql = "SELECT sum(a.value + b.value) FROM generate_series(1, 100000) a, generate_series(1, 100000000) b"
        threading.Timer(1.0, cursor.adbc_cancel).start()
        try:
            cursor.execute(sql)
            cursor.fetchall()
        except flightsql.Error as error:
            assert "cancel" in str(error).lower(), str(error)
            return "ok"
    raise AssertionError("the query came to its end")


def types(cursor):
    cursor.execute(
        "SELECT CAST(1.5 AS DECIMAL(10, 2)) AS de, arrow_cast('view', 'Utf8View') AS v, [1, NULL] AS l, "
        "named_struct('a', 1, 'b', 'x') AS s, MAP {'k': 1} AS m, X'00ff' AS b, CAST('NaN' AS DOUBLE) AS nan, NULL AS n, "
        "TIMESTAMP '2026-01-01T00:00:00.123456789' AS t, arrow_cast('d', 'Dictionary(Int32, Utf8)') AS d"
    )
    table = cursor.fetch_arrow_table()
    expect(str(table.schema.field("t").type), "timestamp[ns]")
    expect(table["t"].cast("int64").to_pylist(), [1767225600123456789])
    expect([str(table.schema.field(name).type) for name in "vd"], ["string", "string"])
    row = table.drop_columns(["t"]).to_pylist()[0]
    expect(str(row.pop("nan")), "nan")
    expect(str(row.pop("de")), "1.50")
    expect(
        row,
        {"v": "view", "l": [1, None], "s": {"a": 1, "b": "x"}, "m": [("k", 1)], "b": b"\x00\xff", "n": None, "d": "d"},
    )
    return "ok"


def adbc():
    with flightsql.connect(URL, autocommit=True) as connection, connection.cursor() as cursor:
        info = connection.adbc_get_info()
        tried(ADBC, "adbc_get_info", lambda: expect(info["vendor_name"], "Twofold"))

        def view():
            cursor.execute("SELECT * FROM clicks_by_page ORDER BY page")
            table = cursor.fetch_arrow_table()
            names = ["page", "clicks", "total_ms", "last_click"]
            expect(table.column_names, names)
            return expect(table.drop_columns(["last_click"]).to_pylist()[0], {"page": "/a", "clicks": 2, "total_ms": 40})

        tried(ADBC, "a view as an Arrow table", view)

        def objects():
            found = connection.adbc_get_objects(depth="columns").read_all().to_pylist()
            tables = found[0]["catalog_db_schemas"][0]["db_schema_tables"]
            kinds = {table["table_name"]: table["table_type"] for table in tables}
            expect((kinds["clicks"], kinds["clicks_by_page"], kinds["top_pages"]), ("STREAM", "MATERIALIZED VIEW", "VIEW"))
            columns = {t["table_name"]: [c["column_name"] for c in t["table_columns"]] for t in tables}
            return expect(columns["clicks"], ["event_time", "user_id", "page", "duration_ms"])

        tried(ADBC, "adbc_get_objects with columns", objects)
        schema = lambda: expect(connection.adbc_get_table_schema("top_pages").names, ["page", "clicks"])
        tried(ADBC, "adbc_get_table_schema", schema)
        schema = lambda: expect(cursor.adbc_execute_schema("SELECT * FROM top_pages").names, ["page", "clicks"])
        tried(ADBC, "adbc_execute_schema", schema)
        sql = "SELECT clicks FROM clicks_by_page WHERE page = ? AND last_click >= ?"
        at = datetime.datetime(2024, 5, 1, 12, 0, 0)
        tried(ADBC, "parameters (?)", lambda: expect(rows(cursor, sql, ("/a", at)), [(2,)]))
        sql = "SELECT clicks FROM clicks_by_page WHERE page = $1"
        tried(ADBC, "parameters ($1), and no row", lambda: expect(rows(cursor, sql, ("' OR true --",)), []))
        tried(ADBC, "all types", lambda: types(cursor))
        tried(ADBC, "a million rows", lambda: many(cursor))
        tried(ADBC, "adbc_cancel", lambda: cancelled(connection))
        wrong = lambda: refuses(cursor, "SELECT nope FROM clicks", flightsql.ProgrammingError, "nope")
        tried(ADBC, "an error in SQL", wrong)
        changes = lambda: refuses(cursor, "DROP TABLE clicks", flightsql.Error, "DDL")
        tried(ADBC, "DDL is refused", changes)

        def ingest():
            try:
                cursor.adbc_ingest("clicks", pyarrow.table({"page": ["/x"]}), mode="append")
            except flightsql.NotSupportedError as error:
                return expect("changes nothing" in str(error), True)
            raise AssertionError("it was taken in")

        tried(ADBC, "adbc_ingest is refused", ingest)


def plain_flight():
    """Flight without SQL's messages: for the coverage, which ADBC does not show."""
    client = pyarrow.flight.connect(URL.replace("grpc://", "grpc+tcp://"))
    # CommandStatementQuery in an Any, as protobuf writes them.
    sql = b"SELECT * FROM clicks_by_page"
    query = b"\x0a" + bytes([len(sql)]) + sql
    name = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
    command = b"\x0a" + bytes([len(name)]) + name + b"\x12" + bytes([len(query)]) + query

    def coverage():
        info = client.get_flight_info(pyarrow.flight.FlightDescriptor.for_command(command))
        reader = client.do_get(info.endpoints[0].ticket)
        parts = json.loads(reader.schema.metadata[b"twofold.coverage"])
        expect(sum(part["speed"][1] for part in parts), 3)
        expect(reader.schema.metadata.get(b"twofold.watermark", b"2024")[:4], b"2024")
        return expect(reader.read_all().num_rows, 2)

    tried(PYARROW, "coverage and watermark of an answer", coverage)


adbc()
plain_flight()
sys.exit(1 if failed else 0)
