//! What drivers ask about the server itself: what it can do, and the types that it has.

use super::SQL_LIMIT;
use arrow_flight::error::Result;
use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{
    Nullable, Searchable, SqlInfo, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity,
    SqlSupportedGroupBy, SqlSupportedSubqueries, SqlSupportedTransaction, SqlSupportedUnions,
    SupportedSqlGrammar, XdbcDataType, XdbcDatetimeSubcode,
};

/// The version of Arrow's columnar format that is spoken.
const ARROW_FORMAT: &str = "1.5";

/// What the server is, and what its SQL has.
pub(super) fn sql_info() -> Result<SqlInfoData> {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "Twofold");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, ARROW_FORMAT);
    for (name, value) in [
        (SqlInfo::FlightSqlServerReadOnly, true),
        (SqlInfo::FlightSqlServerSql, true),
        (SqlInfo::FlightSqlServerSubstrait, false),
        (SqlInfo::FlightSqlServerCancel, true),
        (SqlInfo::FlightSqlServerBulkIngestion, false),
        (SqlInfo::SqlDdlCatalog, false),
        (SqlInfo::SqlDdlSchema, false),
        (SqlInfo::SqlDdlTable, false),
        (SqlInfo::SqlAllTablesAreSelectable, true),
        (SqlInfo::SqlSupportsColumnAliasing, true),
        (SqlInfo::SqlNullPlusNullIsNull, true),
        (SqlInfo::SqlSupportsTableCorrelationNames, true),
        (SqlInfo::SqlSupportsDifferentTableCorrelationNames, false),
        (SqlInfo::SqlSupportsExpressionsInOrderBy, true),
        (SqlInfo::SqlSupportsOrderByUnrelated, true),
        (SqlInfo::SqlSupportsLikeEscapeClause, true),
        (SqlInfo::SqlSupportsNonNullableColumns, true),
        (SqlInfo::SqlSupportsIntegrityEnhancementFacility, false),
        (SqlInfo::SqlCatalogAtStart, true),
        (SqlInfo::SqlSelectForUpdateSupported, false),
        (SqlInfo::SqlStoredProceduresSupported, false),
        (SqlInfo::SqlCorrelatedSubqueriesSupported, true),
        (SqlInfo::SqlTransactionsSupported, false),
        (SqlInfo::SqlBatchUpdatesSupported, false),
        (SqlInfo::SqlSavepointsSupported, false),
        (SqlInfo::SqlNamedParametersSupported, false),
    ] {
        info.append(name, value);
    }
    for (name, value) in [
        (SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32),
        (SqlInfo::FlightSqlServerStatementTimeout, 0),
        (SqlInfo::FlightSqlServerTransactionTimeout, 0),
        (SqlInfo::SqlIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32),
        (SqlInfo::SqlQuotedIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown as i32),
        (SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i32),
        (SqlInfo::SqlOuterJoinsSupportLevel, bit(SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32)),
        (
            SqlInfo::SqlSupportedGroupBy,
            bit(SqlSupportedGroupBy::SqlGroupByUnrelated as i32)
                | bit(SqlSupportedGroupBy::SqlGroupByBeyondSelect as i32),
        ),
        (
            SqlInfo::SqlSupportedGrammar,
            bit(SupportedSqlGrammar::SqlMinimumGrammar as i32)
                | bit(SupportedSqlGrammar::SqlCoreGrammar as i32),
        ),
        (
            SqlInfo::SqlSupportedSubqueries,
            bit(SqlSupportedSubqueries::SqlSubqueriesInComparisons as i32)
                | bit(SqlSupportedSubqueries::SqlSubqueriesInExists as i32)
                | bit(SqlSupportedSubqueries::SqlSubqueriesInIns as i32),
        ),
        (
            SqlInfo::SqlSupportedUnions,
            bit(SqlSupportedUnions::SqlUnion as i32) | bit(SqlSupportedUnions::SqlUnionAll as i32),
        ),
    ] {
        info.append(name, value);
    }
    for (name, value) in [
        (SqlInfo::SqlIdentifierQuoteChar, "\""),
        (SqlInfo::SqlSearchStringEscape, "\\"),
        (SqlInfo::SqlExtraNameCharacters, ""),
        (SqlInfo::SqlSchemaTerm, "schema"),
        (SqlInfo::SqlCatalogTerm, "catalog"),
        (SqlInfo::SqlProcedureTerm, "procedure"),
    ] {
        info.append(name, value);
    }
    info.append(SqlInfo::SqlMaxStatementLength, SQL_LIMIT as i64);
    for (name, words) in [
        (SqlInfo::SqlKeywords, &["QUALIFY", "STREAM", "UNNEST", "WATERMARK"][..]),
        (
            SqlInfo::SqlNumericFunctions,
            &["abs", "ceil", "exp", "floor", "ln", "log", "mod", "power", "round", "sqrt"],
        ),
        (
            SqlInfo::SqlStringFunctions,
            &["concat", "length", "lower", "ltrim", "replace", "rtrim", "substr", "trim", "upper"],
        ),
        (SqlInfo::SqlSystemFunctions, &["coalesce", "nullif"]),
        (
            SqlInfo::SqlDatetimeFunctions,
            &["date_part", "date_trunc", "hop", "is_final", "now", "session", "to_timestamp", "tumble"],
        ),
    ] {
        info.append(name, words);
    }
    info.build()
}

/// One of several, as a set of one.
const fn bit(place: i32) -> i32 {
    1 << place
}

/// The types of columns, as ODBC and JDBC number them.
pub(super) fn types() -> Result<XdbcTypeInfoData> {
    use XdbcDataType as T;
    // ODBC's number for a date, which Flight calls by the name of an interval's.
    const DATE: XdbcDatetimeSubcode = XdbcDatetimeSubcode::XdbcSubcodeYear;
    let mut types = XdbcTypeInfoDataBuilder::new();
    for (name, data_type, size, radix) in [
        ("BOOLEAN", T::XdbcBit, 1, None),
        ("TINYINT", T::XdbcTinyint, 8, Some(2)),
        ("SMALLINT", T::XdbcSmallint, 16, Some(2)),
        ("INT", T::XdbcInteger, 32, Some(2)),
        ("BIGINT", T::XdbcBigint, 64, Some(2)),
        ("REAL", T::XdbcReal, 24, Some(2)),
        ("DOUBLE", T::XdbcDouble, 53, Some(2)),
        ("DECIMAL", T::XdbcDecimal, 76, Some(10)),
    ] {
        let decimal = data_type == T::XdbcDecimal;
        types.append(XdbcTypeInfo {
            create_params: decimal.then(|| vec!["precision".into(), "scale".into()]),
            fixed_prec_scale: !decimal,
            minimum_scale: decimal.then_some(0),
            maximum_scale: decimal.then_some(76),
            num_prec_radix: radix,
            unsigned_attribute: Some(false),
            auto_increment: Some(false),
            ..of_type(name, data_type, size)
        });
    }
    for (name, data_type) in [("TEXT", T::XdbcVarchar), ("BYTEA", T::XdbcVarbinary)] {
        let (prefix, suffix) = if name == "TEXT" { ("'", "'") } else { ("X'", "'") };
        types.append(XdbcTypeInfo {
            literal_prefix: Some(prefix.into()),
            literal_suffix: Some(suffix.into()),
            case_sensitive: true,
            ..of_type(name, data_type, i32::MAX)
        });
    }
    for (name, data_type, code, size) in [
        ("DATE", T::XdbcDate, DATE, 10),
        ("TIME", T::XdbcTime, XdbcDatetimeSubcode::XdbcSubcodeTime, 18),
        ("TIMESTAMP", T::XdbcTimestamp, XdbcDatetimeSubcode::XdbcSubcodeTimestamp, 29),
    ] {
        types.append(XdbcTypeInfo {
            literal_prefix: Some(format!("{name} '")),
            literal_suffix: Some("'".into()),
            sql_data_type: T::XdbcDatetime,
            datetime_subcode: Some(code),
            ..of_type(name, data_type, size)
        });
    }
    types.build()
}

fn of_type(name: &str, data_type: XdbcDataType, size: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.into(),
        data_type,
        column_size: Some(size),
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Full,
        local_type_name: Some(name.into()),
        sql_data_type: data_type,
        ..XdbcTypeInfo::default()
    }
}
