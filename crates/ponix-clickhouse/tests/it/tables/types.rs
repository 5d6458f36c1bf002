//! Values of every type: what is written is what ClickHouse reads from the same JSON.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::{BoxedStrategy, Just, Strategy as _, any, prop_oneof};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime};

use super::*;

/// How many events are tried.
const EVENTS: usize = 400;

/// 1900-01-01 and 2299-12-31, in seconds since 1970.
const SECONDS: std::ops::Range<i64> = -2_208_988_800..10_413_791_999;

fn of<T: Into<Value> + std::fmt::Debug + 'static>(
    values: impl proptest::strategy::Strategy<Value = T> + 'static,
) -> BoxedStrategy<Value> {
    values.prop_map(Into::into).boxed()
}

/// Integers as numbers or as texts.
fn integer<T>() -> BoxedStrategy<Value>
where
    T: proptest::arbitrary::Arbitrary + Into<Value> + ToString + Clone + 'static,
{
    let forms = |(number, text): (T, bool)| {
        if text {
            number.to_string().into()
        } else {
            number.into()
        }
    };
    any::<(T, bool)>().prop_map(forms).boxed()
}

fn digits(whole: usize, fraction: usize) -> BoxedStrategy<Value> {
    let pattern = format!("-?[1-9][0-9]{{0,{}}}\\.[0-9]{{1,{fraction}}}", whole - 1);
    let pattern: &'static str = pattern.leak();
    of(pattern)
}

fn date(days: std::ops::Range<i64>) -> BoxedStrategy<Value> {
    // Julian days begin earlier than those since 1970.
    let text = |days: i64| {
        let date = Date::from_julian_day(2_440_588 + days as i32).expect("in range");
        date.to_string()
    };
    of(days.prop_map(text))
}

/// Times with as many digits after the second as there are in `unit_ns`.
fn moment(seconds: std::ops::Range<i64>, unit_ns: u32) -> BoxedStrategy<Value> {
    let text = move |(seconds, part): (i64, u32)| {
        let at = OffsetDateTime::from_unix_timestamp(seconds).expect("in range");
        let part = part / unit_ns * unit_ns;
        let at = at.replace_nanosecond(part).expect("below a second");
        at.format(&Rfc3339).expect("a year of four digits")
    };
    of((seconds, 0..1_000_000_000_u32).prop_map(text))
}

/// Objects as people send them; one type for each key, or ClickHouse reads some of them otherwise.
fn object() -> BoxedStrategy<Value> {
    let leaf = |key: &'static str| match key {
        "n" => of(any::<i64>()),
        "u" => of(any::<u64>()),
        "f" => of(-1e9..1e9_f64),
        "b" => of(any::<bool>()),
        "s" => of("\\PC{0,12}"),
        _ => of(vec(of(any::<i32>()), 0..4)),
    };
    let keys = ["n", "u", "f", "b", "s", "a"];
    let fields = keys.map(|key| option::of(leaf(key)).prop_map(move |value| (key, value)));
    let flat = fields.to_vec().prop_map(|fields| {
        let some = |(key, value): (&str, Option<Value>)| Some((key.to_owned(), value?));
        Value::Object(fields.into_iter().filter_map(some).collect())
    });
    (flat.clone(), option::of(flat))
        .prop_map(|(mut object, inner)| {
            if let (Value::Object(fields), Some(inner)) = (&mut object, inner) {
                fields.insert("inner".into(), inner);
            }
            object
        })
        .boxed()
}

/// A column of each type, and values for it.
fn columns_and_values() -> Vec<(&'static str, BoxedStrategy<Value>)> {
    let float32 = any::<f32>().prop_filter("finite", |float| float.is_finite());
    let float64 = any::<f64>().prop_filter("finite", |float| float.is_finite());
    let names = |names: &'static [&'static str]| of(proptest::sample::select(names));
    let text = || of("\\PC{0,20}");
    let nullable = |values: BoxedStrategy<Value>| prop_oneof![Just(Value::Null), values].boxed();
    let map = |values: BoxedStrategy<Value>| {
        let maps = btree_map("[a-zäé'\\\\]{1,5}", values, 0..5);
        maps.prop_map(|map| Value::Object(map.into_iter().collect()))
            .boxed()
    };
    let tuple = (of(any::<i8>()), text()).prop_map(|(a, b)| json!({"a": a, "b": b}));
    let tuple = tuple.boxed();
    vec![
        ("Bool", of(any::<bool>())),
        ("Int8", integer::<i8>()),
        ("Int16", integer::<i16>()),
        ("Int32", integer::<i32>()),
        ("Int64", integer::<i64>()),
        (
            "Int128",
            of(any::<i128>().prop_map(|number| number.to_string())),
        ),
        ("Int256", of("-?[1-9][0-9]{0,75}")),
        ("UInt8", integer::<u8>()),
        ("UInt16", integer::<u16>()),
        ("UInt32", integer::<u32>()),
        ("UInt64", integer::<u64>()),
        (
            "UInt128",
            of(any::<u128>().prop_map(|number| number.to_string())),
        ),
        ("UInt256", of("[1-9][0-9]{0,76}")),
        ("Float32", of(float32.prop_map(f64::from))),
        ("Float64", of(float64)),
        (
            "BFloat16",
            of((-128..128_i64).prop_map(|number| number as f64 / 4.0)),
        ),
        ("Decimal(9, 2)", digits(7, 2)),
        ("Decimal(18, 4)", digits(14, 4)),
        ("Decimal(38, 10)", digits(28, 10)),
        ("Decimal(76, 30)", digits(46, 30)),
        ("Date", date(0..65_535)),
        ("Date32", date(-25_567..120_530)),
        ("DateTime", moment(0..4_294_967_295, 1_000_000_000)),
        ("DateTime64(0, 'UTC')", moment(SECONDS, 1_000_000_000)),
        ("DateTime64(3, 'UTC')", moment(SECONDS, 1_000_000)),
        (
            "DateTime64(6, 'Europe/Berlin')",
            moment(0..4_000_000_000, 1_000),
        ),
        (
            "DateTime64(9, 'UTC')",
            moment(-2_208_988_800..9_223_372_036, 1),
        ),
        ("Time", of("-?[0-9]{1,2}:[0-5][0-9]:[0-5][0-9]")),
        ("Time64(3)", of("[0-9]{3}:[0-5][0-9]:[0-5][0-9]\\.[0-9]{3}")),
        (
            "UUID",
            of(any::<u128>().prop_map(|bits| Uuid::from_u128(bits).to_string())),
        ),
        (
            "IPv4",
            of(any::<std::net::Ipv4Addr>().prop_map(|address| address.to_string())),
        ),
        (
            "IPv6",
            of(any::<std::net::Ipv6Addr>().prop_map(|address| address.to_string())),
        ),
        ("String", text()),
        ("FixedString(8)", of("[ -~]{0,8}")),
        (
            "Enum8('on' = 1, 'off' = -2, 'it\\'s' = 3)",
            names(&["on", "off", "it's"]),
        ),
        ("Enum16('a' = 1000, 'b' = -1000)", names(&["a", "b"])),
        ("LowCardinality(String)", names(&["", "x", "yy"])),
        (
            "LowCardinality(Nullable(String))",
            nullable(names(&["", "x"])),
        ),
        ("Nullable(Float64)", nullable(of(-1e6..1e6_f64))),
        ("Nullable(Decimal(9, 2))", nullable(digits(7, 2))),
        ("Array(String)", of(vec(text(), 0..5))),
        (
            "Array(Nullable(Int32))",
            of(vec(nullable(of(any::<i32>())), 0..5)),
        ),
        (
            "Array(Array(UInt8))",
            of(vec(of(vec(of(any::<u8>()), 0..3)), 0..3)),
        ),
        ("Map(String, Int64)", map(of(any::<i64>()))),
        (
            "Map(LowCardinality(String), Array(UInt8))",
            map(of(vec(of(any::<u8>()), 0..3))),
        ),
        ("Tuple(a Int8, b String)", tuple.clone()),
        (
            "Tuple(UInt8, Tuple(Bool, String))",
            of((any::<u8>(), any::<bool>(), "[a-z]{0,4}").prop_map(|(a, b, c)| json!([a, [b, c]]))),
        ),
        ("Array(Tuple(a Int8, b String))", of(vec(tuple, 0..4))),
        (
            "Point",
            of((-90.0..90.0_f64, 0.0..180.0_f64).prop_map(|(a, b)| json!([a, b]))),
        ),
        ("JSON", object()),
        ("JSON(max_dynamic_paths = 2)", object()),
    ]
}

#[tokio::test]
async fn every_type_is_written_as_clickhouse_reads_it() {
    let columns = columns_and_values();
    let mut shape = String::from("id UInt32");
    for (n, (column_type, _)) in columns.iter().enumerate() {
        shape = format!("{shape}, c{n} {column_type}");
    }
    let create =
        |name| format!("CREATE TABLE {name} ({shape}) ENGINE = ReplacingMergeTree ORDER BY id");
    let (ours, theirs) = (create("ours"), create("theirs"));
    let tables = Tables::new("tables_types", &[&ours, &theirs], config("ours", &["id"])).await;

    let mut runner = TestRunner::deterministic();
    let events: Vec<Value> = (0..EVENTS)
        .map(|id| {
            let mut event = json!({"id": id});
            for (n, (_, values)) in columns.iter().enumerate() {
                let value = values.new_tree(&mut runner).expect("a value").current();
                event[format!("c{n}")] = value;
            }
            event
        })
        .collect();
    let records: Vec<_> = (0..)
        .zip(&events)
        .map(|(n, event)| record(n, event.clone()))
        .collect();
    tables.store(&records).await;

    for chunk in events.chunks(40) {
        let lines: Vec<String> = chunk.iter().map(Value::to_string).collect();
        let sql = format!(
            "INSERT INTO theirs SETTINGS date_time_input_format = 'best_effort', \
             json_type_escape_dots_in_keys = 1, input_format_try_infer_dates = 0, \
             input_format_try_infer_datetimes = 0 FORMAT JSONEachRow {}",
            lines.join("\n")
        );
        tables.execute(&sql).await;
    }
    assert_eq!(
        tables.number("SELECT count() FROM ours").await,
        EVENTS as u64
    );
    assert_eq!(
        tables.number("SELECT count() FROM theirs").await,
        EVENTS as u64
    );
    for (n, (column_type, _)) in columns.iter().enumerate() {
        let compared = format!(
            "SELECT ifNull(any(concat(toString(o.c{n}), ' is not ', toString(t.c{n}))), '') \
             FROM ours AS o JOIN theirs AS t USING (id) \
             WHERE toString(tuple(o.c{n})) != toString(tuple(t.c{n}))"
        );
        assert_eq!(tables.text(&compared).await, "", "{column_type}");
    }
}

#[tokio::test]
async fn integers_and_floats_in_json_keep_their_types() {
    let mut config = config("events", &["id"]);
    config.columns = Some(columns(&[("id", "UInt8")]));
    config.unknown_fields = UnknownFields::JsonColumn;
    config.schema = Schema::Create;
    let tables = Tables::new("tables_json_numbers", &[], config).await;
    let event = json!({"id": 1, "int": 5, "float": 5.0, "large": u64::MAX, "text": "2026-01-01"});
    tables.store(&[record(0, event)]).await;
    let types = "SELECT arrayStringConcat([dynamicType(data.int), dynamicType(data.float), \
                 dynamicType(data.large), dynamicType(data.text)], ' ') FROM events";
    assert_eq!(tables.text(types).await, "Int64 Float64 UInt64 String");
}
