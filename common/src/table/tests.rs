use super::*;
use crate::ddl::{Statement, parse};
use ::parquet::arrow::ArrowWriter;
use arrow::array::{BinaryViewArray, Int64Array, StringArray, StringViewArray};
use arrow::datatypes::TimeUnit;
use arrow::util::pretty::pretty_format_batches;

/// Loads what `CREATE TABLE t` and `columns` declare over a file of these bytes.
fn load(columns: &str, options: &str, file: &str, bytes: &[u8]) -> Result<Table> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(file), bytes).unwrap();
    let sql = format!("CREATE TABLE t {columns} WITH (path = '{file}' {options})");
    let Statement::Table(decl) = parse("f.sql", &sql).unwrap().remove(0) else { panic!("no table") };
    Table::load(&decl, dir.path())
}

fn csv(columns: &str, text: &str) -> Table {
    load(columns, "", "t.csv", text.as_bytes()).unwrap()
}

fn csv_error(columns: &str, text: &str) -> String {
    load(columns, "", "t.csv", text.as_bytes()).unwrap_err().to_string()
}

fn rows(table: &Table) -> Vec<String> {
    let shown = pretty_format_batches(&table.batches).unwrap().to_string();
    let lines = shown.lines().filter(|line| line.starts_with('|')).skip(1);
    let cells = |line: &str| {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect::<Vec<_>>()
    };
    lines.map(|line| cells(line).join("|")).collect()
}

fn types(table: &Table) -> Vec<DataType> {
    table.def.schema.fields().iter().map(|f| f.data_type().clone()).collect()
}

fn parquet_file(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn csv_columns_are_found_by_name_in_any_order() {
    let table = csv("(id BIGINT NOT NULL, name TEXT)", "name,extra,id\nada,x,1\n\"b,c\",y,2\n");
    assert_eq!(rows(&table), ["1|ada", "2|b,c"]);
    assert!(!table.def.schema.field(0).is_nullable());
}

#[test]
fn csv_without_header_goes_by_position() {
    let table =
        load("(id BIGINT, name TEXT)", ", header = false, delimiter = ';'", "t.csv", b"1;ada\n").unwrap();
    assert_eq!(rows(&table), ["1|ada"]);
}

#[test]
fn an_empty_field_is_null_but_in_a_text_column_the_empty_text() {
    let table = csv("(a BIGINT, b TEXT NOT NULL, c TEXT)", "a,b,c\n,,\n");
    let columns = table.batches[0].columns();
    let nulls: Vec<_> = columns.iter().map(|c| c.null_count()).collect();
    assert_eq!(nulls, [1, 0, 0]);
}

#[test]
fn csv_columns_are_inferred_from_the_whole_file() {
    let table = csv("", "\u{feff}n,x,t,s,none\n1,1.5,2013-01-01T00:00:00,a,\n2,2,2013-01-02T00:00:00,5,\n");
    let timestamp = DataType::Timestamp(TimeUnit::Second, None);
    assert_eq!(
        types(&table),
        [DataType::Int64, DataType::Float64, timestamp, DataType::Utf8, DataType::Utf8]
    );
    assert_eq!(table.def.schema.field(0).name(), "n");
    let unnamed = load("", ", header = false", "t.csv", b"1,a\n").unwrap();
    assert_eq!(unnamed.def.schema.field(1).name(), "column_2");
}

#[test]
fn csv_errors_name_the_column_and_the_line() {
    let cases = [
        (
            "(id BIGINT)",
            "x,id\na,1\nb,two\n",
            "column `id`: row 2: Error while parsing value 'two' as type 'Int64'",
        ),
        (
            "(t TIMESTAMP)",
            "t,x\n2013-01-01,1\nnoon,2\n",
            "column `t`: row 2: Parser error: Error parsing timestamp",
        ),
        ("(id BIGINT)", "name,ID\na,1\n", "has no column `id`; for `ID`, write \"ID\" in double quotes"),
        ("(id BIGINT)", "name,no\na,1\n", "has no column `id`; it has `name` and `no`"),
        ("(id BIGINT NOT NULL)", "id,x\n1,a\n,b\n", "row 2: column `id` is NOT NULL, but there is no value"),
        ("(id BIGINT)", "id,x\n1\n", "line 2"),
        ("", "id,id\n1,2\n", "has two columns `id`"),
        ("(id BIGINT)", "id,id\n1,2\n", "has two columns `id`"),
        ("", "", "has no columns"),
    ];
    for (columns, text, expected) in cases {
        let message = csv_error(columns, text);
        assert!(message.starts_with("f.sql:1:1: table `t`: /"), "{message}");
        assert!(message.contains("t.csv: ") && message.contains(expected), "{message}");
    }
}

#[test]
fn a_bad_value_in_a_file_without_header_is_counted_from_one() {
    let error = load("(id BIGINT)", ", header = false", "t.csv", b"one\n").unwrap_err().to_string();
    assert!(error.contains("column `id`: row 1: "), "{error}");
}

#[test]
fn a_missing_file_is_named_with_the_statement() {
    let Statement::Table(decl) = parse("f.sql", "CREATE TABLE t WITH (path = 'no.csv')").unwrap().remove(0)
    else {
        panic!("no table")
    };
    let message = Table::load(&decl, Path::new("/nowhere")).unwrap_err().to_string();
    assert!(
        message.starts_with("f.sql:1:1: table `t`: /nowhere/no.csv: cannot be read: No such file"),
        "{message}"
    );
}

#[test]
fn ndjson_is_read_with_declared_or_inferred_columns() {
    let text = b"{\"b\": \"x\", \"a\": 1, \"more\": 0}\n{\"a\": 2}\n";
    let table = load("(a BIGINT NOT NULL, b TEXT)", "", "t.ndjson", text).unwrap();
    assert_eq!(rows(&table), ["1|x", "2|"]);
    let inferred = load("", "", "t.ndjson", text).unwrap();
    let names: Vec<_> = inferred.def.schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names, ["a", "b", "more"]);
}

#[test]
fn ndjson_errors_name_the_line() {
    let error =
        |text: &str| load("(a BIGINT NOT NULL)", "", "t.jsonl", text.as_bytes()).unwrap_err().to_string();
    assert!(error("{\"a\": 1}\n{\"a\": \"x\"}\n").contains("t.jsonl: line 2: "));
    assert!(error("{\"a\": 1}\n\n{\"a\": \n").contains("t.jsonl: line 3: "));
    assert!(error("{\"a\": 1}\n{}\n").contains("row 2: column `a` is NOT NULL"));
}

#[test]
fn parquet_is_converted_to_the_declared_columns() {
    let batch = RecordBatch::try_from_iter([
        ("name", Arc::new(StringViewArray::from(vec!["ada", "bob"])) as ArrayRef),
        ("id", Arc::new(Int64Array::from(vec![1, 2]))),
    ]);
    let file = parquet_file(&batch.unwrap());
    let table = load("(id INT NOT NULL, name TEXT)", "", "t.parquet", &file).unwrap();
    assert_eq!(types(&table), [DataType::Int32, DataType::Utf8]);
    assert_eq!(rows(&table), ["1|ada", "2|bob"]);
    let message = load("(name BIGINT)", "", "t.parquet", &file).unwrap_err().to_string();
    assert!(message.contains("column `name` is Utf8View and cannot be read as Int64"), "{message}");
    let message = load("(age BIGINT)", "", "t.parquet", &file).unwrap_err().to_string();
    assert!(message.contains("has no column `age`; it has `name` and `id`"), "{message}");
}

#[test]
fn inferred_parquet_has_no_views_and_no_metadata() {
    let batch = RecordBatch::try_from_iter([
        ("s", Arc::new(StringViewArray::from(vec!["a"])) as ArrayRef),
        ("b", Arc::new(BinaryViewArray::from(vec![b"a".as_slice()]))),
    ]);
    let table = load("", "", "t.parquet", &parquet_file(&batch.unwrap())).unwrap();
    assert_eq!(types(&table), [DataType::Utf8, DataType::Binary]);
    assert_eq!(table.batches[0].schema(), table.def.schema);
    assert!(table.def.schema.metadata().is_empty());
}

#[test]
fn a_null_in_parquet_is_refused_where_it_is_not_declared() {
    let column = Arc::new(StringArray::from(vec![Some("a"), None])) as ArrayRef;
    let file = parquet_file(&RecordBatch::try_from_iter([("s", column)]).unwrap());
    let message = load("(s TEXT NOT NULL)", "", "t.parquet", &file).unwrap_err().to_string();
    assert!(message.contains("row 2: column `s` is NOT NULL"), "{message}");
}

#[test]
fn a_truncated_parquet_file_is_an_error() {
    let column = Arc::new(Int64Array::from(vec![1])) as ArrayRef;
    let file = parquet_file(&RecordBatch::try_from_iter([("a", column)]).unwrap());
    for length in 0..file.len() {
        assert!(load("", "", "t.parquet", &file[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn the_digest_follows_bytes_columns_and_options() {
    let digest = |columns: &str, options: &str, text: &str| {
        load(columns, options, "t.csv", text.as_bytes()).unwrap().digest
    };
    let base = digest("(a BIGINT)", "", "a\n1\n");
    assert_eq!(digest("(a BIGINT)", "", "a\n1\n"), base);
    assert_ne!(digest("(a BIGINT)", "", "a\n2\n"), base);
    assert_ne!(digest("(a INT)", "", "a\n1\n"), base);
    assert_ne!(digest("(a BIGINT NOT NULL)", "", "a\n1\n"), base);
    let text = |header| digest("(a TEXT)", header, "a\n1\n");
    assert_ne!(text(", header = false"), text(", header = true"));
}

#[test]
fn many_batches_are_one_table() {
    let text: String =
        std::iter::once("a\n".to_string()).chain((0..3000).map(|i| format!("{i}\n"))).collect();
    let table = csv("(a BIGINT NOT NULL)", &text);
    assert_eq!(table.num_rows(), 3000);
    let with_hole = text.replace('\n', ",x\n").replace("2500,x", ",x").replacen("a,x", "a,b", 1);
    let message = csv_error("(a BIGINT NOT NULL)", &with_hole);
    assert!(message.contains("row 2501: column `a`"), "{message}");
}
