"""What is no row is refused at every door of the store, with the reason, and nothing is stored."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from feature_repo.contracts import SECOND_NS, FeatureRow, InvalidMessage
from feature_repo.online_row import OnlineWrite
from feature_repo.settings import ROOT, Settings
from feature_repo.store import FeatureStore
from tests.bench.stranger import await_server, post
from tests.feature_repo.made_rows import CONTEXT, START_NS, made_row, made_sequence, write_lake
from tests.integration.conftest import free_port

pytestmark = pytest.mark.integration
NOW_NS = START_NS + 300 * SECOND_NS
AT = datetime.fromtimestamp(START_NS // SECOND_NS, UTC)


@pytest.fixture
def store(tmp_path: Path, redis_server: str, applied: Path) -> Iterator[FeatureStore]:
    made = Settings(run_dir=tmp_path, redis_url=redis_server)
    made.registry.parent.mkdir(parents=True)
    shutil.copy(applied, made.registry)
    opened = FeatureStore.open(made, clock_ns=lambda: NOW_NS)
    yield opened
    assert opened.client.dbsize() == 0


def unchecked(**changes: Any) -> FeatureRow:
    """A row that was made past the contract's own check."""
    row = made_row(1)
    values = {**row.values, **changes.pop("values", {})}
    return row.model_copy(update={"values": values, **changes})


@pytest.mark.parametrize(("row", "reason"), [
    (unchecked(values={"return_1m": math.nan}), "return_1m expected a finite float or null, found nan"),
    (unchecked(values={"return_1m": -math.inf}), "return_1m expected a finite float or null, found -inf"),
    (unchecked(values={"return_1m": "0.1"}), "return_1m expected a finite float or null, found '0.1'"),
    (unchecked(values={"return_1m": 1}), "return_1m expected a finite float or null, found 1"),
    (unchecked(price=math.inf), "price expected a finite float"),
    (unchecked(ts_event=START_NS // 10**6), "ts_event expected in nanoseconds UTC since 2000"),
    (unchecked(created=START_NS // 10**3), "created expected in nanoseconds UTC since 2000"),
    (unchecked(ts_event=float(START_NS)), "ts_event expected in nanoseconds"),
    (unchecked(ts_event=NOW_NS + 11 * SECOND_NS), "ts_event expected at most 10 s ahead, found 11 s"),
    (unchecked(created=NOW_NS + 3600 * SECOND_NS), "created expected at most 10 s ahead, found 3600 s"),
    (unchecked(symbol="btc/usdt"), "expected an instrument's id, found 'btc/usdt'"),
    (unchecked(symbol=7), "expected an instrument's id, found 7"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_the_streams_door(store: FeatureStore, row: FeatureRow, reason: str) -> None:
    with pytest.raises(InvalidMessage, match=reason):
        store.write([OnlineWrite(made_row(1, "ETHUSDT"), None, {}), OnlineWrite(row, None, {})])


def test_the_streams_door_takes_no_infinite_or_short_sequence(store: FeatureStore) -> None:
    infinite = made_sequence()
    infinite[3, 2] = np.inf
    for sequence in (infinite, made_sequence().astype(np.float32), made_sequence()[:-1]):
        with pytest.raises(InvalidMessage, match="sequence"):
            store.write([OnlineWrite(made_row(1), sequence, {})])


@pytest.mark.parametrize(("value", "ts_event", "created"), [
    (math.nan, START_NS, START_NS), (math.inf, START_NS, START_NS), (0.1, START_NS // 10**9, START_NS),
    (0.1, NOW_NS + 60 * SECOND_NS, NOW_NS), (0.1, START_NS, START_NS // 10**6),
])
def test_the_slow_views_door(store: FeatureStore, value: float, ts_event: int, created: int) -> None:
    with pytest.raises(InvalidMessage, match=r"expected"):
        store.write_context("BTCUSDT", {CONTEXT: value}, ts_event, created)


CASES: list[tuple[dict[str, Any], str]] = [
    ({"return_1m": math.inf}, "return_1m: expected a finite number, found inf"),
    ({"symbol": "NOSUCHUSDT"}, "expected a symbol that is followed, found 'NOSUCHUSDT'"),
    ({"event_timestamp": AT + timedelta(days=40_000)}, "expected at most 10 s ahead"),
    ({"event_timestamp": START_NS // 10**6}, "is it in another unit"),
]


@pytest.mark.parametrize(("changed", "reason"), CASES, ids=[reason for _, reason in CASES])
def test_write_to_online_store(store: FeatureStore, changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidMessage, match=reason):
        store.feast.write_to_online_store("price_features", frame(store, changed))


def test_write_to_online_store_of_a_text_for_a_number(store: FeatureStore) -> None:
    with pytest.raises((ValueError, TypeError)):  # by Feast's own conversion
        store.feast.write_to_online_store("price_features", frame(store, {"return_1m": "much"}))


@pytest.mark.parametrize(("value", "reason"), [
    (Value(double_val=math.nan), "found nan"), (Value(int64_val=1), "expected double_val, found int64_val"),
])
async def test_what_every_way_of_feast_ends_in(store: FeatureStore, value: Value, reason: str) -> None:
    online, view = store.feast._get_provider().online_store, store.feast.get_feature_view("price_features")
    entity = EntityKey(join_keys=["symbol"], entity_values=[Value(string_val="BTCUSDT")])
    rows = [(entity, {"return_1m": value}, AT, AT)]
    with pytest.raises(InvalidMessage, match=reason):
        online.online_write_batch(store.feast.config, view, rows, None)
    with pytest.raises(InvalidMessage, match=reason):
        await online.online_write_batch_async(store.feast.config, view, rows, None)


@pytest.mark.parametrize(("column", "value", "reason"), [
    ("return_1m", math.inf, "found inf"), ("symbol", "NOSUCHUSDT", "NOSUCHUSDT"),
])
def test_materialize(store: FeatureStore, column: str, value: Any, reason: str) -> None:
    [path] = write_lake(store.settings.lake, "features", [made_row(1)])
    table = pq.ParquetFile(path).read()
    at = table.schema.get_field_index(column)
    bad = pa.array([value]).cast(table.schema.field(at).type)
    if column == "symbol":
        path = path.replace("BTCUSDT", value)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.set_column(at, table.schema.field(at), bad), path)
    with pytest.raises(InvalidMessage, match=reason):
        store.feast.materialize(AT, AT + timedelta(minutes=1), feature_views=["price_features"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_feature_server(store: FeatureStore) -> None:
    port = free_port()
    environ = {
        **os.environ, "CANDLEWICK_RUN_DIR": str(store.settings.run_dir), "CANDLEWICK_REDIS_URL": store.settings.redis,
    }
    command = [str(Path(sys.executable).with_name("feast")), "serve", "-p", str(port), "--no-access-log"]
    with subprocess.Popen(
        command, cwd=ROOT / "feature_repo", env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:
        try:
            await_server(f"http://127.0.0.1:{port}/health", process)
            future = {"event_timestamp": datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)}
            for changed, reason in (CASES[1], (future, "at most 10 s ahead"), CASES[3]):
                body = frame(store, changed).astype({"event_timestamp": str, "created_timestamp": str})
                if isinstance(changed.get("event_timestamp"), int):
                    body["event_timestamp"] = changed["event_timestamp"]
                status, said = post(
                    f"http://127.0.0.1:{port}/write-to-online-store",
                    {"feature_view_name": "price_features", "df": body.astype(object).to_dict("list")},
                )
                assert status >= 400
                assert reason in said
        finally:
            process.terminate()


def frame(store: FeatureStore, changed: dict[str, Any]) -> pd.DataFrame:
    """A good row of `price_features`, and one changed."""
    names = [feature.name for feature in store.feast.get_feature_view("price_features").features]
    good = {"symbol": "ETHUSDT", **dict.fromkeys(names, 0.5), "event_timestamp": AT, "created_timestamp": AT}
    made = pd.DataFrame([good, {**good, "symbol": "BTCUSDT", **changed}])
    if isinstance(changed.get("event_timestamp"), int):
        made["event_timestamp"] = np.array([changed["event_timestamp"]] * 2, dtype="int64")
    return made


def test_a_symbol_that_the_stream_has_a_row_of_is_known(store: FeatureStore) -> None:
    store.write([OnlineWrite(made_row(1, "SOLUSDT"), None, {})])
    names = {"symbol": "SOLUSDT", "event_timestamp": AT + timedelta(seconds=5)}
    store.feast.write_to_online_store("price_features", frame(store, names).tail(1))
    found = store.online(["SOLUSDT"], ["price_features:return_1m"])
    store.client.flushall()
    assert found["return_1m"] == [0.5]
