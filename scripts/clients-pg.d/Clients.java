// What JDBC is tried with: java -cp postgresql.jar Clients.java URL

import java.sql.*;
import java.util.*;

public class Clients {
    static void check(boolean holds, Object found) {
        if (!holds) throw new AssertionError("found " + found);
    }

    public static void main(String[] args) throws Exception {
        String url = "jdbc:" + args[0] + "?user=ada";
        try (Connection connection = DriverManager.getConnection(url)) {
            DatabaseMetaData meta = connection.getMetaData();
            Map<String, String> kinds = new TreeMap<>();
            try (ResultSet tables = meta.getTables(null, "public", "%", null)) {
                while (tables.next()) kinds.put(tables.getString("TABLE_NAME"), tables.getString("TABLE_TYPE"));
            }
            check("TABLE".equals(kinds.get("clicks")), kinds);
            check("MATERIALIZED VIEW".equals(kinds.get("clicks_by_page")), kinds);
            check("VIEW".equals(kinds.get("top_pages")), kinds);
            List<String> columns = new ArrayList<>();
            try (ResultSet of = meta.getColumns(null, "public", "clicks", "%")) {
                while (of.next()) columns.add(of.getString("COLUMN_NAME") + " " + of.getString("TYPE_NAME"));
            }
            check(columns.equals(List.of("event_time timestamp", "user_id text", "page text", "duration_ms int8")), columns);
            try (ResultSet schemas = meta.getSchemas()) {
                check(schemas.next(), "no schema");
            }
            connection.setReadOnly(true);
            connection.setAutoCommit(false);
            String sql = "SELECT duration_ms, page, event_time FROM clicks WHERE duration_ms > ? AND page = ? ORDER BY duration_ms";
            for (int run = 0; run < 7; run++) { // From the fifth on it is prepared at the server, and binary.
                try (PreparedStatement statement = connection.prepareStatement(sql)) {
                    statement.setFetchSize(50);
                    statement.setLong(1, 10);
                    statement.setString(2, "/p1");
                    int count = 0;
                    try (ResultSet rows = statement.executeQuery()) {
                        while (rows.next()) {
                            count++;
                            check(rows.getLong(1) == 10 + 3L * count, rows.getLong(1));
                            check(rows.getTimestamp(3).toLocalDateTime().getNano() == 1000, rows.getTimestamp(3));
                        }
                    }
                    check(count == 330, count);
                }
            }
            try (PreparedStatement statement = connection.prepareStatement("SELECT ?::TIMESTAMP, ?::DECIMAL(10, 2), ?::BOOLEAN")) {
                Timestamp time = Timestamp.valueOf("2024-05-01 12:00:00.5");
                statement.setTimestamp(1, time);
                statement.setBigDecimal(2, new java.math.BigDecimal("1.25"));
                statement.setBoolean(3, true);
                try (ResultSet row = statement.executeQuery()) {
                    check(row.next() && row.getTimestamp(1).equals(time), "no timestamp");
                    check(row.getBigDecimal(2).toString().equals("1.25") && row.getBoolean(3), row.getBigDecimal(2));
                }
            }
            connection.commit();
            try (Statement statement = connection.createStatement()) {
                statement.executeQuery("SELECT * FROM nowhere");
                check(false, "no error");
            } catch (SQLException e) {
                check("42P01".equals(e.getSQLState()), e.getSQLState());
            }
            connection.rollback();
            try (Statement statement = connection.createStatement()) {
                statement.setQueryTimeout(1);
                statement.executeQuery("SELECT value FROM generate_series(1, 400000000) ORDER BY -value");
                check(false, "no error");
            } catch (SQLException e) {
                check("57014".equals(e.getSQLState()), e.getSQLState());
            }
            connection.rollback();
            System.out.println(meta.getDriverVersion() + " (Java " + Runtime.version().feature() + ")");
            System.out.println("getTables, getColumns, getSchemas, prepared statements with fetch size, types, SQLSTATEs, query timeout");
        }
    }
}
