"""The as-of store for any Feast repository: equal to brute force in pandas, and every part of Feast's interface."""

from __future__ import annotations

import ast
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FileSource
from feast.errors import FeastEntityDFMissingColumnsError
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo import feast_asof
from feature_repo.feast_asof import AsOfOfflineStore
from feature_repo.feast_asof.entities import Entities
from tests.feature_repo.made_feast import HOUR, T0, brute_force, config, history, made_view, times

MINUTE = timedelta(minutes=1)
MINUTES = st.integers(0, 8)
LATE = st.sampled_from([None, -2, 0, 0, 1, 1, 5])
"""Minutes from event to created; null: no created time, below 0: a row about the future."""
PRICE = st.tuples(st.sampled_from(["A", "B", "C"]), MINUTES, LATE)
STOCK = st.tuples(st.sampled_from(["A", "B"]), st.sampled_from([1, 2]), MINUTES)
ASKED = st.tuples(st.sampled_from(["A", "B", "D", None]), st.sampled_from([1, 2, 3]), st.integers(-1, 14))


def prices_of(rows: list[tuple[str, int, int | None]]) -> pd.DataFrame:
    return pd.DataFrame({
        "symbol": pd.Series([row[0] for row in rows], dtype=object),
        "event_timestamp": times([row[1] for row in rows]),
        "created": times([None if row[2] is None else row[1] + row[2] for row in rows]),
        "price": pd.Series(range(len(rows)), dtype="int64"),
    })


def stocks_of(rows: list[tuple[str, int, int]]) -> pd.DataFrame:
    return pd.DataFrame({
        "symbol": pd.Series([row[0] for row in rows], dtype=object),
        "shelf": pd.Series([row[1] for row in rows], dtype="int64"),
        "event_timestamp": times([row[2] for row in rows]),
        "stock": np.arange(len(rows)) / 2,
    })


def asked_of(rows: list[tuple[str | None, int, int]]) -> pd.DataFrame:
    return pd.DataFrame({
        "symbol": pd.Series([row[0] for row in rows], dtype=object),
        "shelf": pd.Series([row[1] for row in rows], dtype="int64"),
        "event_timestamp": times([row[2] for row in rows]),
        "label": np.arange(len(rows)),
    })


def values(column: pd.Series[Any]) -> list[Any]:
    return [None if pd.isna(x) else x for x in column]


@pytest.mark.timeout(600)
@settings(deadline=None, max_examples=60)
@given(
    st.lists(PRICE, max_size=25), st.lists(STOCK, max_size=15), st.lists(ASKED, max_size=12),
    st.sampled_from([None, timedelta(0), MINUTE, 3 * MINUTE]), st.sampled_from(["created", "event"]),
)
def test_views_of_different_keys_and_ttls_are_each_what_brute_force_finds(
    prices: list[tuple[str, int, int | None]], stocks: list[tuple[str, int, int]],
    asked: list[tuple[str | None, int, int]], ttl: timedelta | None, as_of: str,
) -> None:
    price_rows, stock_rows, entities = prices_of(prices), stocks_of(stocks), asked_of(asked)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        views = [
            made_view(folder, "prices", price_rows, ["symbol"], ttl=ttl),
            made_view(folder, "stocks", stock_rows, ["symbol", "shelf"], ttl=2 * MINUTE, created=None),
        ]
        found = history(folder, views, ["prices:price", "stocks:stock"], entities, as_of=as_of)
    assert found["label"].tolist() == entities["label"].tolist()
    assert found["event_timestamp"].tolist() == entities["event_timestamp"].tolist()
    assert values(found["price"]) == brute_force(price_rows, entities, ["symbol"], "price", ttl, as_of)
    assert values(found["stock"]) == brute_force(stock_rows, entities, ["symbol", "shelf"], "stock", 2 * MINUTE)


@pytest.mark.parametrize("symbols", [1, 500])
def test_many_rows_of_one_and_of_500_symbols_are_what_brute_force_finds(tmp_path: Path, symbols: int) -> None:
    random = np.random.default_rng(symbols)
    names = [f"S{i}" for i in random.integers(0, symbols, 3_000)]
    minutes = random.integers(0, 600, 3_000).tolist()
    late = np.where(random.random(3_000) < 0.1, random.integers(10, 300, 3_000), random.integers(0, 3, 3_000)).tolist()
    rows = prices_of(list(zip(names, minutes, late, strict=True)))
    asked = asked_of([(f"S{random.integers(0, symbols + 1)}", 1, int(random.integers(-9, 900))) for _ in range(200)])
    view = made_view(tmp_path, "prices", rows, ["symbol"], ttl=HOUR)
    found = values(history(tmp_path, [view], ["prices:price"], asked)["price"])
    assert found == brute_force(rows, asked, ["symbol"], "price", HOUR)
    assert {value is None for value in found} == {True, False}


def test_a_row_on_the_edge_of_its_ttl_answers_and_a_nanosecond_later_does_not(tmp_path: Path) -> None:
    view = made_view(tmp_path, "prices", prices_of([("A", 0, 0)]), ["symbol"], ttl=HOUR)
    edge, nanosecond = T0 + HOUR, pd.Timedelta(1, "ns")
    asked = pd.DataFrame({"symbol": "A", "event_timestamp": [edge, edge + nanosecond, T0 - nanosecond]})
    assert values(history(tmp_path, [view], ["prices:price"], asked)["price"]) == [0, None, None]


def test_a_revision_is_seen_from_its_created_time_on_and_late_rows_hide_nothing(tmp_path: Path) -> None:
    rows = prices_of([("A", 0, 1), ("A", 5, 1), ("A", 5, 60), ("A", 2, 90)])
    view = made_view(tmp_path, "prices", rows, ["symbol"])
    asked = asked_of([("A", 1, at) for at in (0, 1, 6, 64, 65, 92, 500)])
    assert values(history(tmp_path, [view], ["prices:price"], asked)["price"]) == [None, 0, 1, 1, 2, 2, 2]
    by_event = history(tmp_path, [view], ["prices:price"], asked, as_of="event")["price"]
    assert values(by_event) == [0, 0, 2, 2, 2, 2, 2]


def test_feasts_own_flag_asks_for_the_rule_where_the_store_is_set_to_event_time(tmp_path: Path) -> None:
    view = made_view(tmp_path, "prices", prices_of([("A", 0, 5)]), ["symbol"])
    asked = asked_of([("A", 1, 1)])
    for flag, expected in ((False, [0]), (True, [None])):
        found = history(tmp_path, [view], ["prices:price"], asked, as_of="event", filter_by_created_timestamp=flag)
        assert values(found["price"]) == expected


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_units_and_zones_of_the_files_change_nothing(tmp_path: Path, unit: str, zone: str | None) -> None:
    rows = pa.Table.from_pandas(prices_of([("A", 0, 1), ("A", 5, 1)]), preserve_index=False)
    for name in ("event_timestamp", "created"):
        at, kind = rows.schema.get_field_index(name), pa.timestamp(unit, zone)
        rows = rows.set_column(at, name, rows[name].cast(pa.int64()).cast(pa.timestamp("ns")).cast(kind, safe=False))
    view = made_view(tmp_path, "prices", prices_of([("A", 0, 1)]), ["symbol"])
    pq.write_table(rows, tmp_path / "prices.parquet")
    found = history(tmp_path, [view], ["prices:price"], asked_of([("A", 1, 0), ("A", 1, 1), ("A", 1, 6)]))
    assert values(found["price"]) == [None, 0, 1]


@pytest.mark.parametrize("given_as", ["naive", "text", "python", "zones", "microseconds"])
def test_entity_times_of_every_kind_are_the_same_instants(tmp_path: Path, given_as: str) -> None:
    view = made_view(tmp_path, "prices", prices_of([("A", 0, 1), ("A", 5, 1)]), ["symbol"])
    asked = asked_of([("A", 1, 1), ("A", 1, 6)])
    at = asked["event_timestamp"]
    asked["event_timestamp"] = {
        "naive": at.dt.tz_localize(None),
        "text": at.map(lambda t: t.isoformat()),
        "python": pd.Series([t.to_pydatetime() for t in at], dtype=object),
        "zones": pd.Series([at[0].tz_convert("Asia/Tokyo"), at[1].tz_convert("America/New_York")], dtype=object),
        "microseconds": at.dt.as_unit("us"),
    }[given_as]
    assert values(history(tmp_path, [view], ["prices:price"], asked)["price"]) == [0, 1]


def test_the_time_column_may_have_another_name(tmp_path: Path) -> None:
    view = made_view(tmp_path, "prices", prices_of([("A", 0, 1)]), ["symbol"])
    asked = asked_of([("A", 1, 1)]).rename(columns={"event_timestamp": "decided_at"})
    assert values(history(tmp_path, [view], ["prices:price"], asked)["price"]) == [0]


def test_an_entity_row_without_a_time_keeps_its_place_and_knows_nothing(tmp_path: Path) -> None:
    view = made_view(tmp_path, "prices", prices_of([("A", 0, 1)]), ["symbol"])
    asked = pd.DataFrame({"symbol": ["A", "A", "A"], "event_timestamp": times([9, None, 9])})
    assert values(history(tmp_path, [view], ["prices:price"], asked)["price"]) == [0, None, 0]


def test_no_entity_rows_and_no_rows_give_the_columns_and_their_types(tmp_path: Path) -> None:
    view = made_view(tmp_path, "prices", prices_of([("A", 0, 1)]), ["symbol"])
    job = AsOfOfflineStore.get_historical_features(
        config(tmp_path), [view], ["prices:price"], asked_of([]), None, "made",
    )
    assert (job.to_arrow().num_rows, job.to_arrow().schema.field("price").type) == (0, pa.int64())
    empty = made_view(tmp_path, "empty", prices_of([]), ["symbol"])
    assert values(history(tmp_path, [empty], ["empty:price"], asked_of([("A", 1, 9)]))["price"]) == [None]


def test_full_names_aliases_and_join_key_maps_ask_the_same_rows_twice(tmp_path: Path) -> None:
    rows = prices_of([("A", 0, 0), ("B", 0, 0)])
    view = made_view(tmp_path, "prices", rows, ["symbol"])
    bought = view.with_name("bought").with_join_key_map({"symbol": "bought_symbol"})
    sold = view.with_name("sold").with_join_key_map({"symbol": "sold_symbol"})
    asked = pd.DataFrame({
        "bought_symbol": ["A", "B", "C"], "sold_symbol": ["B", "A", "A"], "event_timestamp": times([5, 5, 5]),
    })
    found = history(tmp_path, [bought, sold], ["bought:price", "sold:price"], asked, full_names=True)
    assert list(found) == ["bought_symbol", "sold_symbol", "event_timestamp", "bought__price", "sold__price"]
    assert (values(found["bought__price"]), values(found["sold__price"])) == ([0, 1, None], [1, 0, 0])


def test_mapped_names_of_keys_times_and_features_are_the_files_own(tmp_path: Path) -> None:
    rows = prices_of([("A", 0, 1), ("A", 0, 5)]).rename(columns={
        "symbol": "sym", "event_timestamp": "t", "created": "c", "price": "p",
    })
    mapping = {"sym": "symbol", "t": "event_timestamp", "c": "created", "p": "price"}
    view = made_view(tmp_path, "prices", rows, ["sym"], created="created", mapping=mapping)
    asked = asked_of([("A", 1, 1), ("A", 1, 5)])
    assert values(history(tmp_path, [view], ["prices:price"], asked)["price"]) == [0, 1]


def test_views_come_in_order_and_views_of_one_source_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = prices_of([("A", 0, 0)]).assign(size=2.5)
    views = [made_view(tmp_path, "prices", rows, ["symbol"]) for _ in range(2)]
    long = views[1].with_name("long")
    long.ttl = MINUTE
    scans = []
    plain_read = AsOfOfflineStore.read
    monkeypatch.setattr(AsOfOfflineStore, "read", lambda *args: scans.append(1) or plain_read(*args))
    found = history(tmp_path, [long, views[0]], ["prices:size", "long:price"], asked_of([("A", 1, 0), ("A", 1, 9)]))
    assert (list(found)[-2:], len(scans)) == (["price", "size"], 1)
    assert (values(found["price"]), values(found["size"])) == ([0, None], [2.5, 2.5])


def test_nested_values_and_bytes_come_back_as_they_are(tmp_path: Path) -> None:
    rows = pa.Table.from_pandas(prices_of([("A", 0, 0)]), preserve_index=False)
    nested = {
        "struct": pa.array([{"a": 1, "b": "x"}]), "list": pa.array([[1.5, None]]), "bytes": pa.array([b"\x00\xff"]),
        "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), "flag": pa.array([True]),
    }
    view = made_view(tmp_path, "prices", prices_of([("A", 0, 0)]).assign(**dict.fromkeys(nested, "")), ["symbol"])
    for name, column in nested.items():
        rows = rows.append_column(name, column)
    pq.write_table(rows, tmp_path / "prices.parquet")
    refs, asked = [f"prices:{name}" for name in nested], asked_of([("A", 1, 1), ("X", 1, 1)])
    answers = AsOfOfflineStore.get_historical_features(config(tmp_path), [view], refs, asked, None, "made").to_arrow()
    for name, column in nested.items():
        assert answers[name].type == column.type
        assert answers[name].to_pylist() == [*column.to_pylist(), None]


def pulled(folder: Path, name: str, view: Any, keys: list[str], start: float, end: float) -> pa.Table:
    """Prices by `pull_<name>_from_table_or_query`, start and end in minutes after T0."""
    first, last = (pd.Timestamp(t).to_pydatetime() for t in times([start, end]))
    pull = getattr(AsOfOfflineStore, f"pull_{name}_from_table_or_query")
    job = pull(config(folder), view.batch_source, keys, ["price"], "event_timestamp", "created", first, last)
    return job.to_arrow()


def test_pulling_the_latest_takes_the_newest_revision_of_the_newest_row_in_the_range(tmp_path: Path) -> None:
    rows = prices_of([("A", 1, 1), ("A", 5, 9), ("A", 5, 1), ("B", 2, 0), ("A", 7, 0), ("B", 0, 0)])
    view = made_view(tmp_path, "prices", rows, ["symbol"])
    found = pulled(tmp_path, "latest", view, ["symbol"], 1, 5)
    assert found.column_names == ["symbol", "price", "event_timestamp", "created"]
    assert found["price"].to_pylist() == [1, 3]
    assert pulled(tmp_path, "latest", view, [], 0, 9).to_pylist()[0]["__dummy_id"] == ""


def test_pulling_all_takes_every_row_in_the_range_both_ends_included(tmp_path: Path) -> None:
    rows = prices_of([("A", 5, 9), ("A", 5, 1), ("B", 2, 0), ("A", 7, 0), ("A", 0, 0)])
    view = made_view(tmp_path, "prices", rows, ["symbol"])
    assert pulled(tmp_path, "all", view, ["symbol"], 2, 5)["price"].to_pylist() == [0, 1, 2]
    everything = AsOfOfflineStore.pull_all_from_table_or_query(
        config(tmp_path), view.batch_source, ["symbol"], ["price"], "event_timestamp",
    )
    assert everything.to_arrow()["price"].to_pylist() == [0, 1, 2, 3, 4]


def write(rows: pd.DataFrame, path: Path) -> None:
    pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), path)


def hive(folder: Path, rows: pd.DataFrame) -> Path:
    """The rows below date=…/symbol=…, as Spark and DuckDB lay them."""
    root = folder / "lake"
    for (date, symbol), inside in rows.groupby([rows["event_timestamp"].dt.strftime("%Y-%m-%d"), "symbol"]):
        below = root / f"date={date}" / f"symbol={symbol}"
        below.mkdir(parents=True)
        write(inside.drop(columns="symbol"), below / "part-0.parquet")
    return root


def test_folders_of_dates_and_keys_are_read_only_where_they_can_answer(tmp_path: Path) -> None:
    rows = prices_of([(symbol, day * 1440, 0) for day in range(4) for symbol in ("A", "B")])
    root = hive(tmp_path, rows)
    for unread in ("date=2024-03-10/symbol=A", "date=2024-03-13/symbol=A", "date=2024-03-11/symbol=B"):
        (root / unread / "part-0.parquet").write_bytes(b"not Parquet: it must not be opened")
    view = made_view(
        tmp_path, "prices", rows, ["symbol"], ttl=24 * HOUR, path="lake", tags={"asof.date_partition": "date"},
    )
    asked = asked_of([("A", 1, 1440 * 2), ("A", 1, 1440 * 2 + 60)])
    # The first file alone is opened for the columns.
    write(rows[:1].drop(columns="symbol"), root / "date=2024-03-10/symbol=A/part-0.parquet")
    assert values(history(tmp_path, [view], ["prices:price"], asked)["price"]) == [4, 4]


def test_a_partition_that_is_no_date_is_said(tmp_path: Path) -> None:
    rows = prices_of([("A", 0, 0)])
    hive(tmp_path, rows)
    view = made_view(tmp_path, "prices", rows, ["symbol"], path="lake", tags={"asof.date_partition": "day"})
    with pytest.raises(ValueError, match="expected folders day=2024-01-31 below source 'prices_source', found"):
        history(tmp_path, [view], ["prices:price"], asked_of([("A", 1, 0)]))


def test_hidden_and_unfinished_files_are_passed_by_and_younger_columns_are_found(tmp_path: Path) -> None:
    root = tmp_path / "folder"
    root.mkdir()
    rows = prices_of([("A", 0, 0), ("A", 5, 0)]).assign(size=[1.0, 2.0])
    write(rows[:1].drop(columns="size"), root / "a.parquet")
    write(rows[1:], root / "b.parquet")
    for name in (".x.parquet", "_SUCCESS", "c.parquet.tmp"):
        (root / name).write_bytes(b"half")
    view = made_view(tmp_path, "prices", rows, ["symbol"], path="folder")
    found = history(tmp_path, [view], ["prices:size"], asked_of([("A", 1, 1), ("A", 1, 9)]))
    assert values(found["size"]) == [None, 2.0]


@pytest.mark.parametrize(("change", "message"), [
    ({"refs": ["prices:nosuch"]}, r"expected the columns \['nosuch'\] in source prices_source .*found \['symbol'"),
    ({"rename": {"label": "price"}}, r"expected each column once, found \['price'\].*full_feature_names=True"),
    ({"path": "nowhere"}, r"expected Parquet at the path of source prices_source \(nowhere\), found nothing there"),
    ({"key": 7}, r"expected the join key 'symbol' as (large_)?string, as its source has it, found int64"),
])
def test_errors_say_what_was_expected_what_was_found_and_what_to_do(
    tmp_path: Path, change: dict[str, Any], message: str,
) -> None:
    rows = prices_of([("A", 0, 0)]).assign(nosuch=1.0)
    view = made_view(tmp_path, "prices", rows, ["symbol"], path=change.get("path", ""))
    if "path" not in change:
        write(rows.drop(columns="nosuch"), tmp_path / "prices.parquet")
    asked = asked_of([("A", 1, 0)]).rename(columns=change.get("rename", {}))
    asked = asked.assign(**({"symbol": change["key"]} if "key" in change else {}))
    with pytest.raises(ValueError, match=message):
        history(tmp_path, [view], change.get("refs", ["prices:price"]), asked)


def test_a_missing_join_key_is_feasts_own_error(tmp_path: Path) -> None:
    view = made_view(tmp_path, "prices", prices_of([("A", 0, 0)]), ["symbol"])
    with pytest.raises(FeastEntityDFMissingColumnsError, match="symbol"):
        history(tmp_path, [view], ["prices:price"], asked_of([("A", 1, 0)]).drop(columns="symbol"))


def test_rows_of_another_kind_than_a_frame_or_sql_are_refused(tmp_path: Path) -> None:
    view = made_view(tmp_path, "prices", prices_of([("A", 0, 0)]), ["symbol"])
    with pytest.raises(ValueError, match="expected a DataFrame or SQL as entity rows, found list"):
        history(tmp_path, [view], ["prices:price"], [{"symbol": "A"}])  # type: ignore[arg-type]


@pytest.mark.parametrize("query", [
    "SELECT symbol, event_timestamp FROM Prices_Source",
    'WITH made AS (SELECT symbol, event_timestamp FROM "prices_source") SELECT * FROM made',
])
def test_a_source_that_cannot_be_opened_refuses_only_queries_that_need_it(tmp_path: Path, query: str) -> None:
    rows = prices_of([("A", 0, 0), ("B", 1, 0)]).drop(columns="created")
    held = made_view(tmp_path, "prices", rows, ["symbol"], created=None).batch_source
    # A part of the other's name, a column, a table that the query makes itself: none of them is the source.
    lost = [FileSource(name=name, path="lost.parquet", timestamp_field="t") for name in ("prices", "symbol", "made")]
    assert Entities.of_sql(query, [*lost, held], tmp_path).rows["symbol"].to_pylist() == ["A", "B"]
    with pytest.raises(ValueError, match="source 'prices' cannot be opened: expected Parquet"):
        Entities.of_sql("SELECT * FROM prices", [*lost, held], tmp_path)
    with pytest.raises(ValueError, match="expected SQL that DuckDB runs") as refused:
        Entities.of_sql("SELECT * FROM 'prices_none.parquet'", [*lost, held], tmp_path)
    assert "cannot be opened" not in str(refused.value)


def test_without_entity_rows_each_entity_is_asked_at_each_of_its_times_in_the_range(tmp_path: Path) -> None:
    rows = prices_of([("A", 0, 0), ("A", 3, 1), ("B", 2, 0), ("C", 9, 0), ("A", 5, 0), ("B", 2, 9)])
    view = made_view(tmp_path, "prices", rows, ["symbol"])
    start, end = (datetime.fromtimestamp(t.timestamp(), UTC) for t in times([1, 5]))
    job = AsOfOfflineStore.get_historical_features(
        config(tmp_path), [view], ["prices:price"], None, None, "made", start_date=start, end_date=end,
    )
    found = job.to_df()
    asked = list(zip(found["symbol"], found["event_timestamp"], values(found["price"]), strict=True))
    three, two, five = times([3, 2, 5])
    assert asked == [("A", three, 0), ("B", two, 2), ("A", five, 4)]


def test_the_folder_imports_what_feast_users_have_and_nothing_of_ours() -> None:
    allowed = {*sys.stdlib_module_names, "duckdb", "feast", "numpy", "pandas", "pyarrow", "pydantic"}
    for file in Path(feast_asof.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert {name.split(".")[0] for name in names} <= allowed, file.name
            assert getattr(node, "level", 0) <= 1, "a copy of the folder has nothing above it"
