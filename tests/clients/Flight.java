// What a user of JDBC does over Arrow Flight SQL, against a running server:
//   java --add-opens=java.base/java.nio=ALL-UNNAMED -cp flight-sql-jdbc-driver.jar Flight.java HOST:PORT
// Prints a line for each thing that was tried: client, version, what, result. Exits 1 if one of them failed.

import java.sql.*;
import java.util.*;

public class Flight {
    interface Check { void run() throws Exception; }

    static String version = "?";
    static boolean failed = false;

    static void tried(String what, Check check) {
        String result = "ok";
        try {
            check.run();
        } catch (Throwable e) {
            failed = true;
            result = "FAILED: " + String.valueOf(e).replace('\n', ' ');
        }
        System.out.println("flight-sql-jdbc-driver\t" + version + "\t" + what + "\t" + result);
    }

    static void expect(Object found, Object expected) {
        if (!Objects.equals(found, expected)) throw new AssertionError("expected " + expected + ", found " + found);
    }

    static List<String> column(ResultSet rows, int column) throws SQLException {
        List<String> values = new ArrayList<>();
        try (rows) {
            while (rows.next()) values.add(rows.getString(column));
        }
        return values;
    }

    static void refuses(Statement statement, String sql, String part) throws SQLException {
        try {
            statement.execute(sql);
        } catch (SQLException e) {
            if (e.getMessage().contains(part)) return;
            throw e;
        }
        throw new AssertionError(sql + " was not refused");
    }

    public static void main(String[] args) throws Exception {
        String url = "jdbc:arrow-flight-sql://" + args[0] + "?useEncryption=false";
        try (Connection connection = DriverManager.getConnection(url); Statement statement = connection.createStatement()) {
            DatabaseMetaData meta = connection.getMetaData();
            version = meta.getDriverVersion().split(" ")[0];
            tried("name, version, read-only", () -> {
                expect(meta.getDatabaseProductName(), "Twofold");
                expect(meta.isReadOnly(), true);
                expect(meta.supportsTransactions(), false);
                expect(meta.getIdentifierQuoteString(), "\"");
                meta.getSQLKeywords();
                meta.getTimeDateFunctions();
            });
            tried("a view", () -> {
                ResultSet rows = statement.executeQuery("SELECT page, clicks, last_click FROM clicks_by_page ORDER BY page");
                expect(rows.next(), true);
                expect(rows.getString("page"), "/a");
                expect(rows.getLong(2), 2L);
                expect(rows.getTimestamp(3, Calendar.getInstance(TimeZone.getTimeZone("UTC"))).toInstant().toString(), "2024-05-01T12:00:02Z");
                expect(rows.next(), true);
                expect(rows.next(), false);
            });
            tried("getCatalogs, getSchemas, getTableTypes", () -> {
                expect(column(meta.getCatalogs(), 1), List.of("twofold"));
                expect(column(meta.getSchemas(), 1), List.of("public"));
                expect(column(meta.getTableTypes(), 1).contains("MATERIALIZED VIEW"), true);
            });
            tried("getTables", () -> {
                expect(column(meta.getTables(null, null, "cl%", new String[] {"MATERIALIZED VIEW"}), 3), List.of("clicks_by_page"));
                expect(column(meta.getTables("twofold", "public", "top%", null), 3), List.of("top_pages"));
            });
            tried("getColumns", () -> {
                List<String> names = new ArrayList<>();
                try (ResultSet columns = meta.getColumns(null, null, "clicks", null)) {
                    while (columns.next()) names.add(columns.getString("COLUMN_NAME") + " " + columns.getInt("NULLABLE"));
                }
                expect(names, List.of("event_time 0", "user_id 0", "page 0", "duration_ms 1"));
            });
            tried("getPrimaryKeys and its kin", () -> {
                expect(column(meta.getPrimaryKeys(null, null, "clicks"), 4), List.of());
                expect(column(meta.getImportedKeys(null, null, "clicks"), 4), List.of());
                expect(column(meta.getExportedKeys(null, null, "clicks"), 4), List.of());
                expect(column(meta.getCrossReference(null, null, "clicks", null, null, "clicks_by_page"), 4), List.of());
            });
            tried("parameters", () -> {
                String sql = "SELECT clicks FROM clicks_by_page WHERE page = ? AND clicks >= ?";
                try (PreparedStatement prepared = connection.prepareStatement(sql)) {
                    for (Object[] asked : new Object[][] {{"/a", 1L, List.of("2")}, {"/a", 3L, List.of()}, {"/b", 1L, List.of("1")}}) {
                        prepared.setString(1, (String) asked[0]);
                        prepared.setLong(2, (Long) asked[1]);
                        expect(column(prepared.executeQuery(), 1), asked[2]);
                    }
                }
            });
            tried("a time as a parameter", () -> {
                String sql = "SELECT count(*) FROM clicks WHERE event_time >= ?";
                try (PreparedStatement prepared = connection.prepareStatement(sql)) {
                    prepared.setTimestamp(1, Timestamp.from(java.time.Instant.parse("2024-05-01T12:00:02Z")), Calendar.getInstance(TimeZone.getTimeZone("UTC")));
                    expect(column(prepared.executeQuery(), 1), List.of("2"));
                }
            });
            tried("all types", () -> {
                ResultSet rows = statement.executeQuery(
                    "SELECT CAST(1.5 AS DECIMAL(10, 2)) AS de, arrow_cast('view', 'Utf8View') AS v, [1, 2] AS l, " +
                    "named_struct('a', 1) AS s, MAP {'k': 1} AS m, X'00ff' AS b, CAST('NaN' AS DOUBLE) AS nan, NULL AS n, " +
                    "TIMESTAMP '2026-01-01T00:00:00.123456789' AS t, DATE '2026-01-01' AS d, true AS f");
                expect(rows.next(), true);
                expect(rows.getBigDecimal("de").toString(), "1.50");
                expect(rows.getString("v"), "view");
                expect(Arrays.toString((Object[]) rows.getArray("l").getArray()), "[1, 2]");
                expect(String.valueOf(rows.getObject("s")), "{\"a\":1}");
                expect(String.valueOf(rows.getObject("m")), "{\"k\":1}");
                expect(Arrays.toString(rows.getBytes("b")), "[0, -1]");
                expect(Double.isNaN(rows.getDouble("nan")), true);
                expect(rows.getObject("n"), null);
                expect(rows.getTimestamp("t").getNanos(), 123456789);
                expect(rows.getDate("d").toString(), "2026-01-01");
                expect(rows.getBoolean("f"), true);
            });
            tried("a million rows", () -> {
                ResultSet rows = statement.executeQuery("SELECT a.value FROM generate_series(1, 1000) a, generate_series(1, 1000) b");
                long count = 0;
                while (rows.next()) count++;
                expect(count, 1000000L);
            });
            tried("cancel", () -> {
                String sql = "SELECT a.value FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";
                try (Statement slow = connection.createStatement(); ResultSet rows = slow.executeQuery(sql)) {
                    rows.next();
                    slow.cancel();
                    try {
                        while (rows.next()) {}
                    } catch (SQLException e) {
                        return;
                    }
                    throw new AssertionError("the query came to its end");
                }
            });
            tried("an error in SQL", () -> refuses(statement, "SELECT nope FROM clicks", "nope"));
            tried("DDL is refused", () -> refuses(statement, "DROP TABLE clicks", "DDL"));
        }
        System.exit(failed ? 1 : 0);
    }
}
