//! What drivers ask about what there is.

use super::{World, column, connect, fetch, multi_thread, query};
use arrow::array::RecordBatch;
use arrow::array::cast::AsArray;
use arrow::datatypes::Schema;
use arrow_flight::sql::{
    CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo, CommandStatementQuery, ProstMessageExt,
    SqlInfo,
};
use arrow_flight::{FlightDescriptor, IpcMessage};
use futures::TryStreamExt;
use prost::Message;

#[test]
fn drivers_find_what_there_is() {
    let world = World::new(&["up"]);
    multi_thread().block_on(async {
        let mut client = connect(world.dir.path()).await;
        assert!(client.handshake("", "").await.is_ok());

        let info = client.get_catalogs().await.unwrap();
        assert_eq!(column(&fetch(&mut client, info).await.unwrap().1, "catalog_name"), ["twofold"]);
        let asked = CommandGetDbSchemas {
            catalog: Some("twofold".into()),
            db_schema_filter_pattern: Some("pub%".into()),
        };
        let info = client.get_db_schemas(asked).await.unwrap();
        assert_eq!(column(&fetch(&mut client, info).await.unwrap().1, "db_schema_name"), ["public"]);
        let info = client.get_table_types().await.unwrap();
        let types = column(&fetch(&mut client, info).await.unwrap().1, "table_type");
        assert_eq!(types, ["MATERIALIZED VIEW", "STREAM", "SYSTEM TABLE", "TABLE", "VIEW"]);

        let tables = |pattern: Option<&str>, types: &[&str], include_schema| CommandGetTables {
            catalog: None,
            db_schema_filter_pattern: None,
            table_name_filter_pattern: pattern.map(str::to_string),
            table_types: types.iter().map(|t| (*t).to_string()).collect(),
            include_schema,
        };
        let info = client.get_tables(tables(None, &[], false)).await.unwrap();
        let all = column(&fetch(&mut client, info).await.unwrap().1, "table_name");
        let expected = [
            "clicks",
            "clicks_rejected",
            "kinds",
            "kinds_rejected",
            "all_kinds",
            "counts",
            "nested",
            "twofold_audit",
            "twofold_late_events",
            "names",
            "ranked",
        ];
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort();
            names
        };
        assert_eq!(sorted(&all), sorted(&expected.map(str::to_string)));
        let info = client.get_tables(tables(None, &["TABLE", "VIEW"], false)).await.unwrap();
        assert_eq!(
            sorted(&column(&fetch(&mut client, info).await.unwrap().1, "table_name")),
            ["names", "ranked"]
        );

        // The schema that is told of each relation is the one that its rows have.
        let info = client.get_tables(tables(None, &[], true)).await.unwrap();
        let (_, batches) = fetch(&mut client, info).await.unwrap();
        let mut told = 0;
        for batch in &batches {
            let names = batch.column_by_name("table_name").unwrap().as_string::<i32>();
            let schemas = batch.column_by_name("table_schema").unwrap().as_binary::<i32>();
            for (name, schema) in names.iter().zip(schemas) {
                let schema = Schema::try_from(IpcMessage(schema.unwrap().to_vec().into())).unwrap();
                let sql = format!("SELECT * FROM \"{}\" LIMIT 0", name.unwrap());
                let (found, _) = query(&mut client, &sql).await.unwrap();
                let plain = |schema: &Schema| {
                    schema
                        .fields()
                        .iter()
                        .map(|f| (f.name().clone(), f.data_type().clone()))
                        .collect::<Vec<_>>()
                };
                assert_eq!(plain(&schema), plain(&found), "{sql}");
                let type_name = schema.field(0).metadata().get("ARROW:FLIGHT:SQL:TYPE_NAME");
                assert!(type_name.is_some_and(|name| !name.is_empty()), "{sql}");
                told += 1;
            }
        }
        assert_eq!(told, expected.len());
        let info = client.get_tables(tables(Some("c%"), &[], false)).await.unwrap();
        let some = column(&fetch(&mut client, info).await.unwrap().1, "table_name");
        assert_eq!(sorted(&some), ["clicks", "clicks_rejected", "counts"]);

        let table = || "counts".to_string();
        let keys = CommandGetPrimaryKeys { catalog: None, db_schema: None, table: table() };
        let exported = CommandGetExportedKeys { catalog: None, db_schema: None, table: table() };
        let imported = CommandGetImportedKeys { catalog: None, db_schema: None, table: table() };
        let cross =
            CommandGetCrossReference { pk_table: table(), fk_table: "clicks".into(), ..Default::default() };
        let infos = [
            (client.get_primary_keys(keys).await.unwrap(), 6),
            (client.get_exported_keys(exported).await.unwrap(), 13),
            (client.get_imported_keys(imported).await.unwrap(), 13),
            (client.get_cross_reference(cross).await.unwrap(), 13),
        ];
        for (info, columns) in infos {
            let (schema, batches) = fetch(&mut client, info).await.unwrap();
            assert_eq!(schema.fields().len(), columns);
            assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 0, "nobody declares keys");
        }

        let info = client
            .get_sql_info(vec![SqlInfo::FlightSqlServerReadOnly, SqlInfo::FlightSqlServerName])
            .await
            .unwrap();
        let (schema, batches) = fetch(&mut client, info).await.unwrap();
        assert_eq!(batches[0].num_rows(), 2);
        assert_eq!(schema.field(0).name(), "info_name");
        let info = client.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: None }).await.unwrap();
        let types = column(&fetch(&mut client, info).await.unwrap().1, "type_name");
        assert!(
            ["BIGINT", "DECIMAL", "TEXT", "TIMESTAMP"].iter().all(|t| types.contains(&t.to_string())),
            "{types:?}"
        );

        let inner = client.inner_mut();
        let actions = inner.list_actions(arrow_flight::Empty {}).await.unwrap().into_inner();
        let actions: Vec<_> = actions.map_ok(|action| action.r#type).try_collect().await.unwrap();
        assert_eq!(
            actions,
            ["CreatePreparedStatement", "ClosePreparedStatement", "CancelFlightInfo", "CancelQuery"]
        );
        let command = CommandStatementQuery { query: "SELECT * FROM ranked".into(), transaction_id: None };
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let schema: Schema = inner.get_schema(descriptor).await.unwrap().into_inner().try_into().unwrap();
        assert_eq!(schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(), ["k", "c", "r"]);
    });
    world.server.stop();
}
