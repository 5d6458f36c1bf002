"""Drives a chdb-server on the port given as the argument with clickhouse-connect; fails with a traceback."""

import datetime
import sys

import clickhouse_connect
from clickhouse_connect.driver.exceptions import DatabaseError


def expect_code(code, run):
    try:
        run()
    except DatabaseError as error:
        assert f"Code: {code}." in str(error), error
    else:
        raise AssertionError(f"no error, code {code} was expected")


def check(compress):
    client = clickhouse_connect.get_client(
        host="127.0.0.1", port=int(sys.argv[1]), username="ponix", password="secret", database="x", compress=compress
    )
    client.command("DROP TABLE IF EXISTS t")
    client.command(
        "CREATE TABLE t (a UInt64, s String, d DateTime64(3, 'UTC'), j JSON, n Nullable(Float64),"
        " l LowCardinality(String), r Array(UInt8), m Map(String, UInt8)) ENGINE = MergeTree ORDER BY a"
    )
    start = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)
    rows = [
        [i, f"s{i}", start + datetime.timedelta(seconds=i), {"x": i}, None if i % 2 else 1.5, "l", [1, 2], {"k": 1}]
        for i in range(1000)
    ]
    client.insert("t", rows, column_names=["a", "s", "d", "j", "n", "l", "r", "m"])
    found = client.query("SELECT * FROM t WHERE a < {limit:UInt64} ORDER BY a", parameters={"limit": 2})
    expected = [[cell.replace(tzinfo=None) if cell is row[2] else cell for cell in row] for row in rows[:2]]
    assert [list(row) for row in found.result_rows] == expected, found.result_rows
    assert client.command("SELECT count() FROM t") == 1000
    assert client.query("SELECT number, toString(number) FROM numbers(200000)").row_count == 200000
    with client.query_row_block_stream("SELECT number FROM numbers(300000)") as stream:
        assert sum(len(block) for block in stream) == 300000

    client.command("CREATE TEMPORARY TABLE here (x UInt8)")
    client.command("INSERT INTO here VALUES (1)")
    assert client.command("SELECT sum(x) FROM here") == 1
    assert client.command("SELECT currentDatabase()") == "x"

    expect_code(47, lambda: client.query("SELECT nosuch FROM t"))
    expect_code(395, lambda: client.query("SELECT throwIf(number = 150000) FROM numbers(200000)"))
    client.close()


for compress in (False, "gzip", "lz4", "zstd"):
    check(compress)
