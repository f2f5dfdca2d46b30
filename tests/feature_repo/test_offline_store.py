"""History of the lake as it was known: revisions, order and number of entity rows, TTL, slow views."""

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pandas as pd

from feature_repo.contracts import MINUTE_NS, SECOND_NS, FeatureRow
from feature_repo.definitions import views
from feature_repo.features import FEATURE_NAMES
from feature_repo.offline_store import LakeOfflineStore
from tests.feature_repo.made_rows import CONTEXT, LAG_NS, START_NS, made_context, made_row, write_lake

FEATURE = "return_5m"
REFS = [f"price_features:{FEATURE}", "row_state:created", f"volatility_context:{CONTEXT}"]


def configuration(lake: Path) -> SimpleNamespace:
    return SimpleNamespace(offline_store=SimpleNamespace(lake_url=lake.as_uri(), s3_endpoint="", as_of="created"))


def history(lake: Path, entities: pd.DataFrame, refs: list[str] = REFS, full_names: bool = False) -> pd.DataFrame:
    config = configuration(lake)
    asked = [views[name] for name in dict.fromkeys(ref.split(":")[0] for ref in refs)]
    return LakeOfflineStore.get_historical_features(config, asked, refs, entities, None, "p", full_names).to_df()


def asked_at(*times_ns: int, symbol: str = "BTCUSDT") -> pd.DataFrame:
    return pd.DataFrame({"symbol": symbol, "event_timestamp": pd.to_datetime(list(times_ns), utc=True)})


def test_a_late_revision_is_not_seen_before_it_was_created(tmp_path: Path) -> None:
    first = made_row(0)
    revised = made_row(0, lag_ns=30 * SECOND_NS, provenance="reconcile", seed=1)
    write_lake(tmp_path.as_uri(), "features", [first, revised])
    found = history(tmp_path, asked_at(first.created - 1, first.created, revised.created - 1, revised.created))
    assert found[FEATURE].tolist()[1:] == [first.values[FEATURE]] * 2 + [revised.values[FEATURE]]
    assert found["created"].tolist() == [None, first.created, first.created, revised.created]


def test_a_late_revision_of_an_older_second_does_not_hide_the_newest_row(tmp_path: Path) -> None:
    newest = made_row(20)
    late = made_row(1, lag_ns=60 * SECOND_NS, provenance="reconcile", seed=1)
    write_lake(tmp_path.as_uri(), "features", [made_row(1), newest, late])
    assert history(tmp_path, asked_at(late.created))["created"].tolist() == [newest.created]


def test_entity_rows_keep_their_order_number_columns_and_repeats(tmp_path: Path) -> None:
    rows = {second: made_row(second) for second in (3, 1, 2)}
    write_lake(tmp_path.as_uri(), "features", rows.values())
    entities = pd.concat([
        asked_at(rows[3].created), asked_at(START_NS - MINUTE_NS), asked_at(rows[1].created),
        asked_at(rows[3].created), asked_at(rows[3].created, symbol="ETHUSDT"),
    ])
    entities["label"] = [0.1, 0.2, 0.3, 0.4, 0.5]
    found = history(tmp_path, entities)
    assert found["label"].tolist() == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert found["event_timestamp"].tolist() == entities["event_timestamp"].tolist()
    assert found["created"].tolist() == [rows[3].created, None, rows[1].created, rows[3].created, None]


def test_every_value_of_the_lake_comes_back_bit_for_bit(tmp_path: Path) -> None:
    rows = [made_row(second) for second in range(0, 120, 7)]
    write_lake(tmp_path.as_uri(), "features", rows)
    refs = [f"{view}:{f.name}" for view in views if view.endswith("_features") for f in views[view].features]
    found = history(tmp_path, asked_at(*(row.created for row in rows)), refs)
    for row, (_, values) in zip(rows, found.iterrows(), strict=True):
        assert {name: None if pd.isna(values[name]) else values[name] for name in FEATURE_NAMES} == row.values


def test_a_row_older_than_its_ttl_is_null_and_each_view_has_its_own(tmp_path: Path) -> None:
    row, slow = made_row(0), made_context(0)
    write_lake(tmp_path.as_uri(), "features", [row])
    write_lake(tmp_path.as_uri(), "context", [slow])
    ttl = views["price_features"].ttl // timedelta(microseconds=1) * 1000
    found = history(tmp_path, asked_at(row.ts_event + ttl, row.ts_event + ttl + 1))
    assert found["created"].tolist() == [row.created, None]
    assert found[CONTEXT].tolist() == [slow.value, slow.value]


def test_a_slow_view_is_joined_by_its_own_knowledge_time(tmp_path: Path) -> None:
    write_lake(tmp_path.as_uri(), "context", [made_context(0), made_context(60)])
    hour = made_context(60)
    found = history(tmp_path, asked_at(hour.ts_event, hour.created))
    assert found[CONTEXT].tolist() == [made_context(0).value, hour.value]


def test_times_without_a_zone_are_utc_and_full_names_carry_the_view(tmp_path: Path) -> None:
    row = made_row(0)
    write_lake(tmp_path.as_uri(), "features", [row])
    entities = pd.DataFrame({"symbol": ["BTCUSDT"], "event_timestamp": [pd.Timestamp(row.created)]})
    assert history(tmp_path, entities, full_names=True)["row_state__created"].tolist() == [row.created]


def test_an_empty_lake_answers_nulls_for_every_entity_row(tmp_path: Path) -> None:
    assert history(tmp_path, asked_at(START_NS, START_NS + 1))[FEATURE].isna().tolist() == [True, True]


def pull_latest(lake: Path, start_ns: int, end_ns: int) -> list[dict[str, object]]:
    config = configuration(lake)
    job = LakeOfflineStore.pull_latest_from_table_or_query(
        config, views["row_state"].batch_source, ["symbol"], ["created"], "event_timestamp", "created_timestamp",
        pd.Timestamp(start_ns, tz="UTC").to_pydatetime(), pd.Timestamp(end_ns, tz="UTC").to_pydatetime(),
    )
    return list(job.to_arrow().to_pylist())


def test_materialisation_takes_the_newest_revision_of_the_newest_row_of_each_symbol(tmp_path: Path) -> None:
    revised = made_row(9, lag_ns=90 * SECOND_NS, provenance="reconcile")
    rows: list[FeatureRow] = [made_row(8), made_row(9), revised, made_row(4, "ETHUSDT"), made_row(200)]
    write_lake(tmp_path.as_uri(), "features", rows)
    latest = pull_latest(tmp_path, START_NS, START_NS + 60 * SECOND_NS)
    assert [(row["symbol"], row["created"]) for row in latest] == [
        ("BTCUSDT", revised.created), ("ETHUSDT", START_NS + 4 * SECOND_NS + LAG_NS),
    ]
