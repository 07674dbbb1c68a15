//! Types on the wire.

use super::{World, column, connect, multi_thread, query, rows};
use crate::oracle::assert_same;
use arrow::array::cast::AsArray;
use arrow::datatypes::{DataType, Float64Type, TimeUnit};
use serde_json::json;

#[test]
fn every_type_arrives_as_it_is() {
    let world = World::new(&["up"]);
    multi_thread().block_on(async {
        let full = json!({
            "id": 1, "flag": true, "tiny": -128, "small": 32767, "i": -2147483648i64, "r": 0.1, "d": 0.1,
            "amount": "-9999999999.99", "wide": "1234567890123456789012345678901234567890123456789012345.67891",
            "t": "é\u{0}\"x", "b": "\\x00ff", "day": "1969-12-31", "at": "2026-01-01T00:00:00.123456789",
            "zoned": "2026-01-01T02:00:00.000000001+02:00", "words": ["a", null, ""], "pair": {"a": 9007199254740993i64, "b": ["x"]}
        });
        let nulls = json!({"id": 2, "words": [], "pair": {"a": null, "b": null}});
        world.ingest("kinds", &[full, nulls, json!({"id": 3})]).await;
        world.clicks(0, 7).await;
        let mut client = connect(world.dir.path()).await;
        for sql in [
            "SELECT * FROM all_kinds ORDER BY id",
            "SELECT * FROM kinds ORDER BY id",
            "SELECT * FROM counts ORDER BY k",
            "SELECT * FROM nested",
            "SELECT k, c FROM counts WHERE false",
            "SELECT _partition, _offset, _ingest_time, k FROM clicks ORDER BY _partition, _offset",
        ] {
            let over_http = world.http.rows(sql).await;
            let (schema, batches) = query(&mut client, sql).await.unwrap();
            assert_same(sql, &batches, &over_http.batches);
            for (flight, http) in schema.fields().iter().zip(over_http.schema.fields()) {
                assert_eq!((flight.name(), flight.data_type()), (http.name(), http.data_type()), "{sql}");
            }
        }
        let batches = rows(&mut client, "SELECT at, zoned, wide FROM all_kinds WHERE id = 1").await;
        assert_eq!(batches[0].schema().field(0).data_type(), &DataType::Timestamp(TimeUnit::Nanosecond, None));
        assert_eq!(column(&batches, "at"), ["2026-01-01T00:00:00.123456789"]);
        assert!(column(&batches, "wide")[0].starts_with("123456789012345678901234567890"));

        // What only the engine makes: views, dictionaries, times, intervals, NaN, unsigned and large types.
        let sql = "SELECT arrow_cast('view', 'Utf8View') AS v, arrow_cast('d', 'Dictionary(Int32, Utf8)') AS d, \
                   arrow_cast(X'00ff', 'BinaryView') AS bv, named_struct('x', arrow_cast('in', 'Utf8View')) AS s, \
                   [arrow_cast('l', 'Dictionary(Int8, Utf8)')] AS l, MAP {'k': arrow_cast('m', 'Utf8View')} AS m, \
                   CAST('NaN' AS DOUBLE) AS nan, CAST('-inf' AS REAL) AS inf, -0.0 AS z, NULL AS nul, \
                   arrow_cast(18446744073709551615, 'UInt64') AS u, arrow_cast('x', 'LargeUtf8') AS lu, \
                   TIME '12:34:56.789' AS tm, INTERVAL '1 month 2 days' AS iv, CAST(1.5 AS DECIMAL(5, 2)) AS de, \
                   arrow_cast(1, 'Duration(Millisecond)') AS du, arrow_cast([1, 2], 'FixedSizeList(2, Int64)') AS fl";
        let (schema, batches) = query(&mut client, sql).await.unwrap();
        let kinds = format!("{schema:?}");
        assert!(!kinds.contains("View") && !kinds.contains("Dictionary"), "{kinds}");
        for (name, value) in [("v", "view"), ("d", "d"), ("nan", "NaN"), ("inf", "-inf"), ("u", "18446744073709551615")] {
            assert_eq!(column(&batches, name), [value], "{name}");
        }
        let float = |name| batches[0].column_by_name(name).unwrap().as_primitive::<Float64Type>().value(0);
        assert!(float("nan").is_nan() && float("z").to_bits() == (-0.0f64).to_bits());
        let text = arrow::util::display::array_value_to_string;
        let shown = |name| text(batches[0].column_by_name(name).unwrap(), 0).unwrap();
        assert_eq!([shown("s"), shown("l"), shown("m"), shown("bv")], ["{x: in}", "[l]", "{k: m}", "00ff"]);
        assert_eq!([shown("de"), shown("fl"), shown("tm")], ["1.50", "[1, 2]", "12:34:56.789"]);
    });
    world.server.stop();
}
