"""The as-of store in other hands: over S3, and in a fresh Feast repository by our documentation alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.repo_operations import init_repo
from feast.types import Int64
from pyarrow import fs

from feature_repo.settings import ROOT
from tests.feature_repo.made_feast import T0, repository, times
from tests.integration.conftest import S3

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::RuntimeWarning:feast")]
DOCS = ROOT / "docs" / "offline-store.md"


def s3(server: S3) -> fs.S3FileSystem:
    return fs.S3FileSystem(endpoint_override=server.endpoint, region="us-east-1")


def test_history_writes_saved_sets_and_partitions_work_on_s3(tmp_path: Path, moto_s3: S3) -> None:
    rows = pd.DataFrame({
        "symbol": ["A", "A", "B"], "event_timestamp": times([0, 1440, 1440]), "created": times([1, 1441, 1500]),
        "price": [1, 2, 3],
    })
    files = s3(moto_s3)
    for date, inside in rows.groupby(rows["event_timestamp"].dt.strftime("%Y-%m-%d")):
        table = pa.Table.from_pandas(inside, preserve_index=False)
        pq.write_table(table, f"{moto_s3.bucket}/prices/date={date}/part.parquet", filesystem=files)
    store = repository(tmp_path)
    source = FileSource(
        name="prices_source", path=f"s3://{moto_s3.bucket}/prices", timestamp_field="event_timestamp",
        created_timestamp_column="created", s3_endpoint_override=moto_s3.endpoint, tags={"asof.date_partition": "date"},
    )
    symbol = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)
    view = FeatureView(name="prices", entities=[symbol], schema=[Field(name="price", dtype=Int64)], source=source)
    store.apply([symbol, view])
    asked = pd.DataFrame({"symbol": ["B", "A", "A", "B"], "event_timestamp": times([1499, 1441, 1440, 1500])})
    job = store.get_historical_features(asked, ["prices:price"])
    assert job.to_df()["price"].astype(object).where(lambda x: x.notna(), None).tolist() == [None, 2, 1, 3]
    path = f"s3://{moto_s3.bucket}/saved.parquet"
    storage = SavedDatasetFileStorage(path=path, s3_endpoint_override=moto_s3.endpoint)
    saved = store.create_saved_dataset(job, "saved", storage)
    found = saved.to_df()
    pd.testing.assert_frame_equal(found, job.to_df()[list(found)])
    row = {"symbol": "B", "event_timestamp": T0, "created": T0, "price": 9, "date": "2024-03-10"}
    added = pd.DataFrame([row])
    store._get_provider().offline_store.offline_write_batch(
        store.config, view, pa.Table.from_pandas(added, preserve_index=False), None,
    )
    found = store.get_historical_features(asked, ["prices:price"]).to_df()["price"]
    assert found.tolist() == [9, 2, 1, 3]
    written = files.get_file_info(fs.FileSelector(f"{moto_s3.bucket}/prices", recursive=True))
    assert not [info.path for info in written if Path(info.path).name.startswith(".")]


def steps(kind: str) -> list[str]:
    """The documentation's own code blocks of a kind, in order."""
    return re.findall(rf"```{kind}\n(.*?)```", DOCS.read_text(), re.DOTALL)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # Feast is imported three times, minutes each on a busy machine
def test_a_stranger_follows_the_documentation_in_feasts_own_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    checkout, environ = tmp_path / "candlewick", {**os.environ, "PYTHONPATH": "", "FEAST_USAGE": "False"}
    # What a stranger has of ours: the one folder. Not importable from there, so that only the copy can be used.
    shutil.copytree(ROOT / "feature_repo" / "feast_asof", checkout / "feature_repo" / "feast_asof")
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    environ |= {"CANDLEWICK": str(checkout), "TZ": "UTC"}

    def run(script: str, folder: Path) -> str:
        done = subprocess.run(
            ["bash", "-euc", script], cwd=folder, env=environ, capture_output=True, text=True, check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    monkeypatch.chdir(tmp_path)
    init_repo("prices", "local")  # what `feast init prices` does
    folder = tmp_path / "prices" / "feature_repo"
    console = [re.sub(r"^\$ ", "", line) for block in steps("console") for line in block.splitlines()]
    run(console[0], folder)
    [yaml] = steps("yaml")[:1]
    with (folder / "feature_store.yaml").open("a") as file:
        file.write(yaml)
    run("feast apply", folder)
    [python] = steps("python")[:1]
    told = textwrap.dedent("""
        import sys, json
        ours = sorted(m for m in sys.modules if m.split(".")[0] in
                      {"feature_repo", "candlewick", "cli", "streaming", "training", "bentos", "monitoring", "infra"})
        store.materialize_incremental(now.to_pydatetime(), feature_views=["driver_hourly_stats"])
        online = store.get_online_features(["driver_hourly_stats:conv_rate"], [{"driver_id": 1001}]).to_dict()
        print(json.dumps({"ours": ours, "store": type(store._get_provider().offline_store).__module__,
                          "rows": len(history), "known": history["conv_rate"].notna().tolist(),
                          "online": online["conv_rate"] == history["conv_rate"][:1].tolist()}))
    """)
    (folder / "ask.py").write_text(python + told)
    found = json.loads(run("python ask.py", folder).splitlines()[-1])
    assert found == {
        "ours": [], "store": "feast_asof.offline_store", "rows": 3, "known": [True, False, False], "online": True,
    }
