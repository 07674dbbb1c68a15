"""What psycopg and SQLAlchemy are tried with: clients.py psycopg|sqlalchemy URL"""
import sys
from decimal import Decimal
from datetime import datetime

EXPECTED = [("/p0", 333, sum(range(3, 1001, 3))), ("/p1", 334, sum(range(1, 1001, 3))), ("/p2", 333, sum(range(2, 1001, 3)))]


def psycopg_client(url):
    import psycopg
    from psycopg import errors

    with psycopg.connect(url) as connection:
        sql = "SELECT page, clicks, total_ms FROM clicks_by_page ORDER BY page"
        for binary in (False, True):
            with connection.cursor(binary=binary) as cursor:
                rows = cursor.execute(sql).fetchall()
                assert rows == EXPECTED, rows
                row = cursor.execute(
                    "SELECT %s::BIGINT, %s::TEXT, %s::DOUBLE, %s::BOOLEAN, %s::TIMESTAMP, %s::DECIMAL(10,2), %s::BYTEA",
                    (7, "é", 0.5, True, datetime(2024, 5, 1, 12), Decimal("1.25"), b"\x00\xff"),
                ).fetchone()
                assert row == (7, "é", 0.5, True, datetime(2024, 5, 1, 12), Decimal("1.25"), b"\x00\xff"), row
                row = cursor.execute("SELECT make_array(1, NULL, 3), named_struct('a', 1)").fetchone()
                assert row == ([1, None, 3], {"a": 1}), row
        one = connection.execute("SELECT count(*) FROM clicks WHERE page = ANY(%s)", (["/p0", "/p1"],)).fetchone()
        assert one == (667,), one
        one = connection.execute(
            "SELECT count(*), max(event_time) FROM clicks WHERE event_time <= %s", (datetime(2024, 5, 2),)
        ).fetchone()
        assert one == (1000, datetime(2024, 5, 1, 12, 0, 0, 1)), one
        for _ in range(10):  # From the fifth time on it is prepared.
            one = connection.execute("SELECT clicks FROM clicks_by_page WHERE page = %s", ("/p1",)).fetchone()
            assert one == (334,), one
        with connection.cursor(name="piecewise") as cursor:
            cursor.itersize = 100
            numbers = [row[0] for row in cursor.execute("SELECT duration_ms FROM clicks ORDER BY 1")]
            assert numbers == list(range(1, 1001)), len(numbers)
        connection.rollback()
        for sql, error in [
            ("SELECT * FROM nowhere", errors.UndefinedTable),
            ("SELECT nothing FROM clicks", errors.UndefinedColumn),
            ("DELETE FROM clicks", errors.ReadOnlySqlTransaction),
        ]:
            try:
                connection.execute(sql)
                raise SystemExit(f"{sql} is not refused")
            except error:
                connection.rollback()
        with connection.transaction():
            with connection.transaction():
                connection.execute("SELECT 1")
        with connection.pipeline():
            cursors = [connection.execute("SELECT %s::BIGINT", (n,)) for n in range(20)]
        assert [cursor.fetchone()[0] for cursor in cursors] == list(range(20))
    print(f"{psycopg.__version__} (libpq {psycopg.pq.version()})")
    print("text and binary, parameters, arrays, json, prepared, server-side cursor, errors, nested transactions, pipeline")


def sqlalchemy_client(url):
    import sqlalchemy
    from sqlalchemy import MetaData, Table, column, create_engine, func, inspect, select, table, text

    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://ada@"))
    inspector = inspect(engine)
    tables = inspector.get_table_names()
    assert {"clicks", "clicks_rejected"} <= set(tables), tables
    assert "top_pages" in inspector.get_view_names(), inspector.get_view_names()
    assert inspector.get_materialized_view_names() == ["clicks_by_page"], inspector.get_materialized_view_names()
    assert inspector.has_table("clicks") and not inspector.has_table("nowhere")
    assert "information_schema" in inspector.get_schema_names() and "columns" not in tables, tables
    columns = {column["name"]: str(column["type"]) for column in inspector.get_columns("clicks_by_page")}
    assert columns["page"] == "TEXT" and columns["clicks"] == "BIGINT", columns
    reflected = Table("clicks_by_page", MetaData(), autoload_with=engine)
    assert [c.name for c in reflected.columns][:2] == ["page", "clicks"], reflected.columns
    assert "count(*)" in inspector.get_view_definition("clicks_by_page").lower()
    with engine.connect() as connection:
        clicks = table("clicks", column("page"), column("duration_ms"))
        query = select(clicks.c.page, func.count()).where(clicks.c.duration_ms > 10).group_by(clicks.c.page)
        rows = sorted(connection.execute(query).all())
        assert [n for _, n in rows] == [330, 330, 330], rows
        rows = connection.execute(text("SELECT page, clicks, total_ms FROM clicks_by_page ORDER BY page")).all()
        assert [tuple(row) for row in rows] == EXPECTED, rows
        rows = connection.execution_options(stream_results=True, max_row_buffer=100).execute(text("SELECT page FROM clicks"))
        assert len(rows.all()) == 1000
    print(f"{sqlalchemy.__version__} with psycopg")
    print("names of tables, views and materialized views; selects, streamed results, reflection of tables and columns")


if __name__ == "__main__":
    {"psycopg": psycopg_client, "sqlalchemy": sqlalchemy_client}[sys.argv[1]](sys.argv[2])
