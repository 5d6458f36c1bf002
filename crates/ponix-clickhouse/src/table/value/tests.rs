use serde_json::json;

use super::*;

fn bytes(column_type: &str, value: &Value) -> Result<Vec<u8>, String> {
    let column_type: ColumnType = column_type.parse().expect(column_type);
    let mut writer = Writer::default();
    match writer.put(&column_type, value) {
        Ok(()) => Ok(writer.bytes),
        Err(misfit) => Err(misfit.within("f").to_string()),
    }
}

#[test]
fn each_kind_of_misfit_names_path_value_type_and_reason() {
    for (column_type, value, message) in [
        (
            "UInt8",
            json!(null),
            "f: null does not fit UInt8: it is not Nullable",
        ),
        (
            "Bool",
            json!(1),
            "f: 1 does not fit Bool: expected true or false",
        ),
        (
            "UInt8",
            json!(256),
            "f: 256 does not fit UInt8: it is out of range",
        ),
        (
            "UInt8",
            json!(-1),
            "f: -1 does not fit UInt8: it is out of range",
        ),
        (
            "UInt8",
            json!("256"),
            r#"f: "256" does not fit UInt8: it is out of range"#,
        ),
        (
            "Int64",
            json!(u64::MAX),
            "f: 18446744073709551615 does not fit Int64: it is out of range",
        ),
        (
            "Int256",
            json!(1e30),
            "f: 1e+30 does not fit Int256: expected an integer; beyond 2^53 as a text",
        ),
        (
            "Int8",
            json!(1.5),
            "f: 1.5 does not fit Int8: expected an integer; beyond 2^53 as a text",
        ),
        (
            "Int8",
            json!("1.0"),
            r#"f: "1.0" does not fit Int8: expected an integer"#,
        ),
        (
            "Int8",
            json!(true),
            "f: true does not fit Int8: expected an integer",
        ),
        (
            "Float32",
            json!(1e39),
            "f: 1e+39 does not fit Float32: it is too large",
        ),
        (
            "BFloat16",
            json!(3.4e38),
            "f: 3.4e+38 does not fit BFloat16: it is too large",
        ),
        (
            "Float64",
            json!("1e400"),
            r#"f: "1e400" does not fit Float64: expected a number"#,
        ),
        (
            "Float64",
            json!([]),
            "f: [] does not fit Float64: expected a number",
        ),
        (
            "Nullable(Float64)",
            json!(9_007_199_254_740_993_i64),
            "f: 9007199254740993 does not fit Float64: it is an integer beyond ±2^53 and would lose digits: send a text, or declare the column an integer",
        ),
        (
            "Float32",
            json!(u64::MAX),
            "f: 18446744073709551615 does not fit Float32: it is an integer beyond ±2^53 and would lose digits: send a text, or declare the column an integer",
        ),
        (
            "Decimal(38, 2)",
            json!(12_345_678_901_234_567_890.12),
            "f: 1.2345678901234567e+19 does not fit Decimal(38, 2): it has more than 15 digits, of which some may be lost: send a text",
        ),
        (
            "Decimal(5, 2)",
            json!("1.234"),
            r#"f: "1.234" does not fit Decimal(5, 2): it has more digits after the point"#,
        ),
        (
            "Decimal(5, 2)",
            json!(1000),
            "f: 1000 does not fit Decimal(5, 2): it has more digits",
        ),
        (
            "Decimal(5, 2)",
            json!("x"),
            r#"f: "x" does not fit Decimal(5, 2): expected a number"#,
        ),
        (
            "Date",
            json!("1969-12-31"),
            r#"f: "1969-12-31" does not fit Date: it is not from 1970-01-01 to 2149-06-06"#,
        ),
        (
            "Date32",
            json!(-30_000),
            "f: -30000 does not fit Date32: it is not from 1900-01-01 to 2299-12-31",
        ),
        (
            "Date",
            json!("31.1.2026"),
            r#"f: "31.1.2026" does not fit Date: expected a date like 2026-01-31, or days since 1970"#,
        ),
        (
            "DateTime",
            json!("2106-02-07T06:28:16Z"),
            r#"f: "2106-02-07T06:28:16Z" does not fit DateTime: it is not from 1970 to 2106-02-07T06:28:15Z"#,
        ),
        (
            "DateTime",
            json!("2026-01-01T00:00:00"),
            r#"f: "2026-01-01T00:00:00" does not fit DateTime: it has neither Z nor an offset, and the column is not in UTC"#,
        ),
        (
            "DateTime64(3, 'UTC')",
            json!("2026-01-01T00:00:00.0001Z"),
            r#"f: "2026-01-01T00:00:00.0001Z" does not fit DateTime64(3, 'UTC'): it has more digits after the second, or is out of range"#,
        ),
        (
            "DateTime64(9)",
            json!("2262-04-12T00:00:00Z"),
            r#"f: "2262-04-12T00:00:00Z" does not fit DateTime64(9): it has more digits after the second, or is out of range"#,
        ),
        (
            "DateTime64(3)",
            json!(i64::MIN),
            "f: -9223372036854775808 does not fit DateTime64(3): it is not from 1900 to 2299",
        ),
        (
            "DateTime64(3)",
            json!(1.5),
            "f: 1.5 does not fit DateTime64(3): expected an integer, in units of the column's precision since 1970",
        ),
        (
            "Time",
            json!(i64::MIN),
            "f: -9223372036854775808 does not fit Time: it is beyond 999:59:59",
        ),
        (
            "Time",
            json!("noon"),
            r#"f: "noon" does not fit Time: expected a time like 12:00:00"#,
        ),
        (
            "UUID",
            json!("x"),
            r#"f: "x" does not fit UUID: expected a UUID"#,
        ),
        (
            "IPv4",
            json!("::1"),
            r#"f: "::1" does not fit IPv4: expected an IPv4 address"#,
        ),
        (
            "IPv6",
            json!("x"),
            r#"f: "x" does not fit IPv6: expected an IP address"#,
        ),
        (
            "FixedString(2)",
            json!("äb"),
            r#"f: "äb" does not fit FixedString(2): it has more bytes"#,
        ),
        (
            "FixedString(2)",
            json!(1),
            "f: 1 does not fit FixedString(2): expected a text",
        ),
        (
            "Enum8('on' = 1, 'off' = 2)",
            json!("away"),
            r#"f: "away" does not fit Enum8: it is none of ["on", "off"]"#,
        ),
        (
            "Enum8('on' = 1)",
            json!(3),
            r#"f: 3 does not fit Enum8: it is none of ["on"]"#,
        ),
        (
            "JSON",
            json!([1]),
            "f: [1] does not fit JSON: expected an object",
        ),
        (
            "Array(UInt8)",
            json!({}),
            "f: {} does not fit Array(UInt8): expected an array",
        ),
        (
            "Array(Array(UInt8))",
            json!([[1], [1, "x"]]),
            r#"f[1][1]: "x" does not fit UInt8: expected an integer"#,
        ),
        (
            "Map(String, UInt8)",
            json!([]),
            "f: [] does not fit Map(String, UInt8): expected an object",
        ),
        (
            "Map(String, UInt8)",
            json!({"a": 1, "b": -1}),
            "f.b: -1 does not fit UInt8: it is out of range",
        ),
        (
            "Map(UInt8, Array(UInt8))",
            json!({"300": []}),
            r#"f.300: "300" does not fit UInt8: it is out of range"#,
        ),
        (
            "Tuple(a UInt8, b String)",
            json!({"b": ""}),
            "f.a: null does not fit UInt8: it is not Nullable",
        ),
        (
            "Tuple(a UInt8)",
            json!({"a": 1, "c": 2}),
            "f.c: 2 does not fit Tuple(a UInt8): it has no element of this name",
        ),
        (
            "Tuple(UInt8, UInt8)",
            json!([1]),
            "f: [1] does not fit Tuple(UInt8, UInt8): it has another number of elements",
        ),
        (
            "Tuple(UInt8)",
            json!({"a": 1}),
            r#"f: {"a":1} does not fit Tuple(UInt8): its elements have no names: expected an array"#,
        ),
        (
            "Tuple(UInt8)",
            json!(1),
            "f: 1 does not fit Tuple(UInt8): expected an array or an object",
        ),
    ] {
        assert_eq!(bytes(column_type, &value), Err(message.to_owned()));
    }
}

#[test]
fn a_long_value_is_shown_short() {
    let long = "ä".repeat(1_000);
    let message = bytes("UInt8", &json!(long)).expect_err("no number");
    assert_eq!(
        message.len(),
        r#"f: ""… does not fit UInt8: expected an integer"#.len() + 100
    );
    let message = bytes("UInt8", &json!(vec![0; 1_000])).expect_err("no number");
    assert!(
        message.starts_with("f: an array of 1000 elements does"),
        "{message}"
    );
    let message = bytes("UInt8", &json!(vec!["abcdefgh"; 50])).expect_err("no number");
    assert!(message.len() < 170, "{message}");
}

#[test]
fn forms_that_mean_the_same_are_the_same_bytes() {
    for (column_type, forms) in [
        ("Int128", vec![json!(-5), json!("-5"), json!(-5.0)]),
        ("UInt8", vec![json!(5), json!("5"), json!("005")]),
        (
            "Decimal(30, 3)",
            vec![
                json!("-1.5"),
                json!(-1.5),
                json!("-15e-1"),
                json!("-1.500000"),
            ],
        ),
        ("Date", vec![json!("1970-02-01"), json!(31)]),
        (
            "DateTime64(3, 'UTC')",
            vec![
                json!("1970-01-01T00:00:01.5Z"),
                json!("1970-01-01 00:00:01.500000"),
                json!("1970-01-01T01:00:01.5+01:00"),
                json!(1_500),
            ],
        ),
        ("DateTime", vec![json!("1970-01-01T00:00:01.0Z"), json!(1)]),
        ("Time64(3)", vec![json!("-00:00:01.5"), json!(-1_500)]),
        ("IPv6", vec![json!("::ffff:1.2.3.4"), json!("1.2.3.4")]),
        ("Enum16('a' = -300)", vec![json!("a"), json!(-300)]),
        (
            "Tuple(a UInt8, b Bool)",
            vec![json!([1, true]), json!({"b": true, "a": 1})],
        ),
        ("String", vec![json!("1.5"), json!(1.5)]),
        ("Float64", vec![json!(1.5), json!("1.5"), json!("15e-1")]),
    ] {
        let first = bytes(column_type, &forms[0]);
        assert!(first.is_ok(), "{column_type}: {first:?}");
        for form in &forms[1..] {
            assert_eq!(bytes(column_type, form), first, "{column_type} {form}");
        }
    }
}

#[test]
fn the_bytes_are_those_of_rowbinary() {
    for (column_type, value, expected) in [
        ("Nullable(Int16)", json!(null), vec![1]),
        ("Nullable(Int16)", json!(-2), vec![0, 0xFE, 0xFF]),
        ("Array(UInt8)", json!([1, 2]), vec![2, 1, 2]),
        ("Map(String, UInt8)", json!({"k": 7}), vec![1, 1, b'k', 7]),
        ("FixedString(3)", json!("a"), vec![b'a', 0, 0]),
        ("BFloat16", json!(1.0), vec![0x80, 0x3F]),
        ("BFloat16", json!("NaN"), vec![0xC0, 0x7F]),
        ("IPv4", json!("1.2.3.4"), vec![4, 3, 2, 1]),
        (
            "JSON",
            json!({"a": [1, 2.5, "x"]}),
            b"\x11{\"a\":[1,2.5,\"x\"]}".to_vec(),
        ),
        ("String", json!({"a": null}), b"\x0a{\"a\":null}".to_vec()),
    ] {
        assert_eq!(
            bytes(column_type, &value),
            Ok(expected),
            "{column_type} {value}"
        );
    }
}
