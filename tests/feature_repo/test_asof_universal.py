"""What Feast expects of every offline store, through Feast itself and on Feast's own made data.

The claims are those of Feast's universal offline tests (main retrieval, shared sources, request data, entities from a
query, persisting, no TTL, backfills, offline writes, no entity rows, logging); Feast ships its data makers, not the
tests. Its data say `created` = now for rows of the past, so `as_of: event` is set where they are asked for the past.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import (
    Entity,
    FeatureService,
    FeatureStore,
    FeatureView,
    Field,
    FileSource,
    PushSource,
    RequestSource,
    ValueType,
)
from feast import driver_test_data as made
from feast.data_source import PushMode
from feast.errors import (
    FeastEntityDFMissingColumnsError,
    RequestDataNotFoundInEntityDfException,
    SavedDatasetLocationAlreadyExists,
)
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination, SavedDatasetFileStorage
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float32, Float64, Int32, Int64

from tests.feature_repo.made_feast import ASOF, repository

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning:feast", "ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.timeout(300),
]
START, END = datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 6, tzinfo=UTC)
DRIVERS, CUSTOMERS, LOCATIONS = [5001, 5002, 5003], [1001, 1002, 1003], [1, 2, 3, 4]
REFS = [
    "driver_stats:conv_rate", "driver_stats:avg_daily_trips", "customer_profile:current_balance",
    "customer_profile:lifetime_trip_count", "order:order_is_success", "global_stats:num_rides",
    "global_stats:avg_ride_length", "field_mapping:feature_name",
]
ON_DEMAND = ["conv_rate_plus_100:conv_rate_plus_100", "conv_rate_plus_100:conv_rate_plus_val_to_add"]


def entity(name: str) -> Entity:
    return Entity(name=name, join_keys=[f"{name}_id"], value_type=ValueType.INT64)


class Universal:
    """A repository over Feast's made data: entities of several kinds, views without any, aliases, a field mapping."""

    def __init__(self, folder: Path) -> None:
        np.random.seed(0)  # noqa: NPY002 - Feast's makers draw from the global generator
        self.folder = folder
        self.frames = {
            "driver": made.create_driver_hourly_stats_df(DRIVERS, START, END),
            "customer": made.create_customer_daily_profile_df(CUSTOMERS, START, END),
            "location": made.create_location_stats_df(LOCATIONS, START, END),
            "global": made.create_global_daily_stats_df(START, END),
            "field_mapping": made.create_field_mapping_df(START, END),
            "orders": made.create_orders_df(CUSTOMERS, DRIVERS, START, END, 20, LOCATIONS),
        }
        for name in ("field_mapping", "orders"):
            frame = self.frames[name]
            frame["event_timestamp"] = pd.to_datetime(frame["event_timestamp"], utc=True)
        # One row that is too old for its view's TTL, one of an unknown driver.
        orders = self.frames["orders"].reset_index(drop=True)
        orders.loc[0, "driver_id"] = 9999
        orders.loc[19, "event_timestamp"] = END + timedelta(days=60)
        self.frames["orders"] = orders.sample(frac=1, random_state=1).reset_index(drop=True)
        for name, frame in self.frames.items():
            frame.to_parquet(folder / f"{name}.parquet", index=False)
        self.store = repository(folder, {"type": ASOF, "as_of": "event", "staging_location": str(folder / "staged")})
        self.views = self._views()
        self.entities = [entity("driver"), entity("customer"), entity("location")]
        self.store.apply([*self.entities, *self.views.values(), *self._services()])

    def source(self, name: str, created: str = "created", **options: Any) -> FileSource:
        return FileSource(
            name=f"{name}_source", path=f"{name}.parquet", timestamp_field="event_timestamp",
            created_timestamp_column=created, **options,
        )

    def _views(self) -> dict[str, Any]:
        driver, customer, location = entity("driver"), entity("customer"), entity("location")
        days = timedelta(days=90)
        drivers = FeatureView(
            name="driver_stats", entities=[driver], ttl=timedelta(days=2), source=self.source("driver"),
            schema=[Field(name="conv_rate", dtype=Float32), Field(name="avg_daily_trips", dtype=Int64)],
        )
        request = RequestSource(name="request", schema=[Field(name="val_to_add", dtype=Int64)])

        @on_demand_feature_view(  # type: ignore[untyped-decorator]
            sources=[drivers, request],
            schema=[Field(name=ref.split(":")[1], dtype=Float64) for ref in ON_DEMAND],
        )
        def conv_rate_plus_100(inputs: pd.DataFrame) -> pd.DataFrame:
            found = pd.DataFrame()
            found["conv_rate_plus_100"] = inputs["conv_rate"] + 100
            found["conv_rate_plus_val_to_add"] = inputs["conv_rate"] + inputs["val_to_add"]
            return found

        return {
            "driver": drivers,
            "customer": FeatureView(
                name="customer_profile", entities=[customer], ttl=days, source=self.source("customer"), schema=[
                    Field(name="current_balance", dtype=Float32), Field(name="lifetime_trip_count", dtype=Int32),
                ],
            ),
            "order": FeatureView(
                name="order", entities=[driver, customer], ttl=days, source=self.source("orders", created=""),
                schema=[Field(name="order_is_success", dtype=Int32)],
            ),
            "location": FeatureView(
                name="location_stats", entities=[location], ttl=days, source=self.source("location"),
                schema=[Field(name="temperature", dtype=Int32)],
            ),
            "global": FeatureView(
                name="global_stats", entities=[], ttl=days, source=self.source("global"),
                schema=[Field(name="num_rides", dtype=Int32), Field(name="avg_ride_length", dtype=Float32)],
            ),
            "mapped": FeatureView(
                name="field_mapping", entities=[], ttl=days,
                source=self.source("field_mapping", field_mapping={"column_name": "feature_name"}),
                schema=[Field(name="feature_name", dtype=Int32)],
            ),
            "on_demand": conv_rate_plus_100,
        }

    def _services(self) -> list[FeatureService]:
        location = self.views["location"]
        return [
            FeatureService(name="plus_100", features=[self.views["driver"][["conv_rate"]], self.views["on_demand"]]),
            FeatureService(name="from_to", features=[
                location.with_name("origin").with_join_key_map({"location_id": "origin_id"}),
                location.with_name("destination").with_join_key_map({"location_id": "destination_id"}),
            ]),
        ]

    def asked(self) -> pd.DataFrame:
        """Orders without what they are asked for, in a mixed order, with an on-demand view's request."""
        rows = self.frames["orders"].drop(columns="order_is_success")
        return rows.assign(val_to_add=range(len(rows)))

    def expected(self, asked: pd.DataFrame, view: str, feature: str, on: dict[str, str]) -> list[Any]:
        """The latest row in [t − TTL, t], of ties the one created last: a loop over records, as Feast's tests do."""
        rows = self.frames[view]
        rows = rows.sort_values([name for name in ("event_timestamp", "created") if name in rows])
        ttl = timedelta(days=2) if view == "driver" else timedelta(days=90)
        found: list[Any] = []
        for record in asked.to_dict("records"):
            answer = None
            for row in rows.to_dict("records"):
                inside = record["event_timestamp"] - ttl <= row["event_timestamp"] <= record["event_timestamp"]
                if inside and all(row[stored] == record[column] for column, stored in on.items()):
                    answer = row[feature]
            found.append(answer)
        return found


@pytest.fixture(scope="module")
def universal(tmp_path_factory: pytest.TempPathFactory) -> Universal:
    return Universal(tmp_path_factory.mktemp("universal"))


def same(found: pd.Series[Any], expected: list[Any]) -> bool:
    return [None if pd.isna(x) else x for x in found] == expected


def all_same(universal: Universal, asked: pd.DataFrame, found: pd.DataFrame, full_names: bool) -> None:
    """Every feature of REFS is what a loop over the records finds, and every entity row is there, in its order."""
    assert found["order_id"].tolist() == asked["order_id"].tolist()
    for name, view, feature, on in [
        ("driver_stats__conv_rate", "driver", "conv_rate", {"driver_id": "driver_id"}),
        ("driver_stats__avg_daily_trips", "driver", "avg_daily_trips", {"driver_id": "driver_id"}),
        ("customer_profile__current_balance", "customer", "current_balance", {"customer_id": "customer_id"}),
        ("customer_profile__lifetime_trip_count", "customer", "lifetime_trip_count", {"customer_id": "customer_id"}),
        ("order__order_is_success", "orders", "order_is_success", {n: n for n in ("driver_id", "customer_id")}),
        ("global_stats__num_rides", "global", "num_rides", {}),
        ("global_stats__avg_ride_length", "global", "avg_ride_length", {}),
        ("field_mapping__feature_name", "field_mapping", "column_name", {}),
    ]:
        column = name if full_names else name.split("__")[1]
        assert same(found[column], universal.expected(asked, view, feature, on)), column


@pytest.mark.parametrize("full_names", [True, False])
def test_views_of_every_kind_with_on_demand_features_and_full_names(universal: Universal, full_names: bool) -> None:
    asked = universal.asked()
    job = universal.store.get_historical_features(asked, [*REFS, *ON_DEMAND], full_feature_names=full_names)
    found = job.to_df()
    prefix = (lambda view, name: f"{view}__{name}") if full_names else (lambda _, name: name)
    names = [prefix(*ref.split(":")) for ref in [*REFS, *ON_DEMAND]]
    assert list(found) == [*asked.columns, *names]
    all_same(universal, asked, found, full_names)
    rate = found[prefix("driver_stats", "conv_rate")]
    assert np.allclose(found[prefix("conv_rate_plus_100", "conv_rate_plus_100")], rate + 100, equal_nan=True)
    by_request = found[prefix("conv_rate_plus_100", "conv_rate_plus_val_to_add")]
    assert np.allclose(by_request, rate + asked["val_to_add"], equal_nan=True)
    assert rate.isna().sum() == 2
    assert job.to_arrow().to_pandas()[names].equals(found[names])


def test_feature_services_ask_for_on_demand_views_and_for_one_view_under_two_aliases(universal: Universal) -> None:
    asked = universal.asked()
    store = universal.store
    plus = store.get_historical_features(asked, store.get_feature_service("plus_100")).to_df()
    assert {"conv_rate", "conv_rate_plus_100", "conv_rate_plus_val_to_add"} <= set(plus)
    both = store.get_historical_features(asked, store.get_feature_service("from_to"), full_feature_names=True).to_df()
    for name, key in (("origin", "origin_id"), ("destination", "destination_id")):
        expected = universal.expected(asked, "location", "temperature", {key: "location_id"})
        assert same(both[f"{name}__temperature"], expected)


@pytest.mark.parametrize("full_names", [True, False])
@pytest.mark.parametrize("query", [
    "SELECT * EXCLUDE order_is_success FROM orders_source",
    "SELECT * EXCLUDE order_is_success FROM 'orders.parquet'",
])
def test_entity_rows_from_a_query_over_a_source_or_a_file_of_the_repository(
    universal: Universal, query: str, full_names: bool,
) -> None:
    job = universal.store.get_historical_features(query, REFS, full_feature_names=full_names)
    asked = universal.asked().drop(columns="val_to_add")
    found = job.to_df()
    assert found["event_timestamp"].tolist() == asked["event_timestamp"].tolist()
    all_same(universal, asked, found, full_names)
    assert job.metadata is not None
    assert job.metadata.max_event_timestamp == END + timedelta(days=60)
    assert set(job.metadata.keys) == set(asked.columns) - {"event_timestamp"}


def test_a_query_that_fails_says_what_was_asked(universal: Universal) -> None:
    with pytest.raises(ValueError, match="expected SQL that DuckDB runs as entity rows, found 'SELECT nonsense'"):
        universal.store.get_historical_features("SELECT nonsense", REFS)


def test_request_data_and_join_keys_that_are_missing_are_feasts_own_errors(universal: Universal) -> None:
    asked = universal.asked()
    with pytest.raises(RequestDataNotFoundInEntityDfException):
        universal.store.get_historical_features(asked.drop(columns="val_to_add"), [*REFS, *ON_DEMAND])
    with pytest.raises(FeastEntityDFMissingColumnsError):
        universal.store.get_historical_features(asked.drop(columns="customer_id"), REFS).to_df()


@pytest.mark.parametrize("full_names", [True, False])
@pytest.mark.parametrize("path", ["saved/one.parquet", "saved/folder"])
def test_a_saved_data_set_comes_back_as_it_was_and_is_overwritten_only_where_allowed(
    universal: Universal, path: str, full_names: bool,
) -> None:
    store, asked = universal.store, universal.asked()
    storage = SavedDatasetFileStorage(path=f"{path}{full_names}" if path.endswith("folder") else f"{full_names}{path}")
    job = store.get_historical_features(asked, [*REFS, *ON_DEMAND], full_feature_names=full_names)
    saved = store.create_saved_dataset(job, "saved", storage)
    expected = job.to_df()
    for found in (saved.to_df(), store.get_saved_dataset("saved").to_df()):
        pd.testing.assert_frame_equal(found, expected[list(found)])
        assert set(expected) - set(found) == {"order_id", "origin_id", "destination_id", "val_to_add"}
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        store.create_saved_dataset(job, "saved", storage)
    again = store.create_saved_dataset(job, "saved", storage, allow_overwrite=True)
    assert len(again.to_df()) == len(expected)


def test_remote_storage_export_writes_the_rows_as_parquet(universal: Universal) -> None:
    job = universal.store.get_historical_features(universal.asked(), REFS)
    assert job.supports_remote_storage_export()
    [url] = job.to_remote_storage()
    assert pq.read_table(url).equals(job.to_arrow())


@pytest.fixture
def trips(tmp_path: Path) -> Any:
    """A repository of one view, made of the rows given."""

    def make(rows: pd.DataFrame, path: str = "trips.parquet", **options: Any) -> tuple[FeatureStore, FeatureView]:
        store = repository(tmp_path)
        if path.endswith(".parquet"):
            rows.to_parquet(tmp_path / path, index=False)
        source = FileSource(
            name="trips_source", path=path, timestamp_field="event_timestamp", created_timestamp_column="created",
        )
        push = PushSource(name="trips_push", batch_source=source)
        shared: dict[str, Any] = {"entities": [entity("driver")], "schema": [Field(name="daily", dtype=Int64)]}
        view = FeatureView(name="trips", source=source, **shared, **options)
        store.apply([entity("driver"), view, push, FeatureView(name="pushed", source=push, **shared)])
        return store, view

    return make


def trip(driver: int, daily: int, at: datetime, created: datetime) -> dict[str, Any]:
    return {"driver_id": driver, "daily": daily, "event_timestamp": at, "created": created}


DAY = timedelta(days=1)
BACKFILLED = pd.DataFrame([
    trip(1001, 10, START, START), trip(1001, 20, START, START + DAY),
    trip(1002, 30, START, START + DAY), trip(1002, 40, START + DAY, START),
])


def test_backfilled_rows_break_ties_by_created_and_never_hide_a_later_event(trips: Any) -> None:
    store, _ = trips(BACKFILLED)
    asked = pd.DataFrame({"driver_id": [1002, 1001], "event_timestamp": [START + 2 * DAY] * 2})
    assert store.get_historical_features(asked, ["trips:daily"]).to_df()["daily"].tolist() == [40, 20]


def test_materialize_brings_the_newest_rows_online_through_the_store(trips: Any) -> None:
    store, _ = trips(BACKFILLED)
    store.materialize(START - DAY, START + DAY)
    found = store.get_online_features(["trips:daily"], [{"driver_id": 1001}, {"driver_id": 1002}, {"driver_id": 1003}])
    assert found.to_dict()["daily"] == [20, 40, None]


@pytest.mark.parametrize("path", ["trips.parquet", "trips"])
def test_rows_written_and_pushed_offline_are_added_in_any_order_of_columns(
    trips: Any, tmp_path: Path, path: str,
) -> None:
    if path == "trips":
        (tmp_path / "trips").mkdir()
        BACKFILLED.to_parquet(tmp_path / "trips" / "first.parquet", index=False)
    store, _ = trips(BACKFILLED, path)
    added = pd.DataFrame([trip(1001, 50, END, END)])
    store.write_to_offline_store("trips", added[["daily", "created", "event_timestamp", "driver_id"]])
    store.push("trips_push", pd.DataFrame([trip(1002, 60, END, END)]), to=PushMode.OFFLINE)
    asked = pd.DataFrame({"driver_id": [1001, 1002, 1001], "event_timestamp": [END, END, START]})
    assert store.get_historical_features(asked, ["trips:daily"]).to_df()["daily"].tolist() == [50, 60, 10]
    assert not list(tmp_path.rglob(".*.parquet"))


def test_a_pushed_column_that_does_not_belong_is_refused_and_nothing_is_written(trips: Any, tmp_path: Path) -> None:
    store, view = trips(BACKFILLED)
    before = (tmp_path / "trips.parquet").read_bytes()
    wrong = pa.Table.from_pandas(pd.DataFrame([trip(1, 2, END, END)]).rename(columns={"daily": "weekly"}))
    with pytest.raises(ValueError, match=r"expected the columns .*'daily', .* found .*'weekly'"):
        store._get_provider().offline_store.offline_write_batch(store.config, view, wrong, None)
    assert (tmp_path / "trips.parquet").read_bytes() == before


def test_hive_folders_stay_hive_folders_when_rows_are_added(trips: Any, tmp_path: Path) -> None:
    rows = BACKFILLED.assign(date=[t.strftime("%Y-%m-%d") for t in BACKFILLED["event_timestamp"]])
    rows.to_parquet(tmp_path / "trips", partition_cols=["date"], index=False)
    store, view = trips(rows, "trips")
    row = pd.DataFrame([{**trip(1001, 50, END, END), "date": "2024-03-06"}])
    added = pa.Table.from_pandas(row, preserve_index=False)
    store._get_provider().offline_store.offline_write_batch(store.config, view, added, None)
    assert len(list((tmp_path / "trips" / "date=2024-03-06").glob("*.parquet"))) == 1
    asked = pd.DataFrame({"driver_id": [1001], "event_timestamp": [END]})
    assert store.get_historical_features(asked, ["trips:daily"]).to_df()["daily"].tolist() == [50]


def test_without_entity_rows_each_time_of_each_entity_in_the_range_is_a_row(trips: Any) -> None:
    rows = pd.DataFrame([trip(9001, i, START + i * DAY, START + i * DAY) for i in range(4)])
    store, _ = trips(rows)
    found = store.get_historical_features(
        features=["trips:daily"], start_date=START + DAY - timedelta(minutes=1), end_date=START + 3 * DAY,
    ).to_df()
    assert found["daily"].tolist() == [1, 2, 3]
    assert found["event_timestamp"].tolist() == [pd.Timestamp(START + i * DAY) for i in (1, 2, 3)]


def test_a_view_without_a_ttl_never_forgets(trips: Any) -> None:
    store, _ = trips(BACKFILLED, ttl=timedelta(0))
    asked = pd.DataFrame({"driver_id": [1001], "event_timestamp": [START + 9_999 * DAY]})
    assert store.get_historical_features(asked, ["trips:daily"]).to_df()["daily"].tolist() == [20]


def test_a_feature_that_the_view_does_not_have_is_refused_though_its_source_has_it(trips: Any) -> None:
    store, _ = trips(BACKFILLED.assign(secret=1))
    asked = pd.DataFrame({"driver_id": [1001], "event_timestamp": [END]})
    with pytest.raises((KeyError, ValueError), match="secret"):
        store.get_historical_features(asked, ["trips:secret"]).to_df()


def test_logged_features_are_added_to_their_folder_and_read_back(trips: Any, tmp_path: Path) -> None:
    store, view = trips(BACKFILLED)
    logging = LoggingConfig(destination=FileLoggingDestination(path="logs"))
    service = FeatureService(name="logged", features=[view], logging_config=logging)
    store.apply([service])
    request = pd.Timestamp(END)
    logs = pd.DataFrame({
        "driver_id": [1001, 1002], "trips__daily": [10, None], "trips__daily__timestamp": [request, request],
        "trips__daily__status": [2, 1], "__log_timestamp": [request, request + DAY], "__log_date": [request.date()] * 2,
        "__request_id": ["a", "b"],
    })
    for part in (logs[:1], logs[1:]):
        logged = pa.Table.from_pandas(part, preserve_index=False)
        store.write_logged_features(logged, store.get_feature_service("logged"))
    assert len(list((tmp_path / "logs").glob("*.parquet"))) == 2
    found = store._get_provider().retrieve_feature_service_logs(
        store.get_feature_service("logged"), END - DAY, END + timedelta(hours=1), store.config, store.registry,
    ).to_df()
    assert found["__request_id"].tolist() == ["a"]
