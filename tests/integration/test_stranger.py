"""A stranger follows docs/online-store.md in a repository of Feast's own template; nothing of ours is imported."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from feature_repo.settings import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

USE = """
import json, sys
from datetime import datetime, timezone
import pandas as pd
from feast import FeatureStore

store = FeatureStore(repo_path=".")
now = datetime.now(timezone.utc)
frame = pd.DataFrame({
    "driver_id": [1001], "event_timestamp": [now], "created": [now], "conv_rate": [0.25], "acc_rate": [0.5],
    "avg_daily_trips": [7], "driver_metadata": [{"vehicle_type": "truck"}], "driver_config": ['{"km": 5}'],
    "driver_profile": [{"name": "n", "age": "30"}],
})
store.push("driver_stats_push_source", frame)
older = frame.assign(event_timestamp=[now - pd.Timedelta(minutes=1)], conv_rate=[0.75])
store.push("driver_stats_push_source", older)
store.write_to_online_store("driver_hourly_stats_fresh", older)
found = store.get_online_features(
    ["driver_hourly_stats_fresh:conv_rate", "driver_hourly_stats_fresh:driver_metadata",
     "driver_hourly_stats:acc_rate"],
    [{"driver_id": 1001}, {"driver_id": 9999}],
)
names = list(found.proto.metadata.feature_names.val)
print(json.dumps({
    "values": found.to_dict(),
    "statuses": {name: list(result.statuses) for name, result in zip(names, found.proto.results)},
    "modules": [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())],
}))
"""


@pytest.fixture
def repository(tmp_path: Path, redis_server: str) -> Path:
    """`feast init`, the folder copied, and the page's first YAML in the place of the template's online store."""
    run(tmp_path, "feast", "init", "my_project")
    folder = tmp_path / "my_project" / "feature_repo"
    shutil.copytree(
        ROOT / "feature_repo" / "newest_wins", folder / "newest_wins", ignore=shutil.ignore_patterns("__pycache__"),
    )
    told = re.search(r"```yaml\n(.*?)```", (ROOT / "docs" / "online-store.md").read_text(), re.DOTALL)
    assert told is not None
    place = redis_server.removeprefix("redis://").split("/", maxsplit=1)[0]
    config = folder / "feature_store.yaml"
    theirs = re.search(r"online_store:\n(?:    .*\n)+", config.read_text())
    assert theirs is not None
    ours = told[1].replace("localhost:6379", place)
    config.write_text(config.read_text().replace(theirs[0], ours))
    return folder


def run(folder: Path, *words: str) -> str:
    """What a program of this environment prints, run there without our folder on its path."""
    own = Path(sys.executable).parent
    environ = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "REDIS_URL"}}
    environ |= {"PATH": f"{own}:{environ['PATH']}", "PYTHONSAFEPATH": "", "FEAST_USAGE": "False"}
    done = subprocess.run(words, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_page_is_all_that_a_stranger_needs(repository: Path, redis_server: str) -> None:
    run(repository, "feast", "apply")
    run(repository, "feast", "materialize-incremental", "2100-01-01T00:00:00")
    found = json.loads(run(repository, "python", "-c", USE).splitlines()[-1])
    assert found["values"]["conv_rate"] == [0.25, None]
    assert found["values"]["driver_metadata"] == [{"vehicle_type": "truck"}, None]
    assert found["values"]["acc_rate"][0] is not None
    assert found["statuses"]["conv_rate"] == [1, 3]  # present, not found
    of_this_folder = [name for name in found["modules"] if name.startswith(str(ROOT)) and "site-packages" not in name]
    assert of_this_folder == []
    assert any(name.endswith("my_project/feature_repo/newest_wins/online_store.py") for name in found["modules"])
    with redis.Redis.from_url(redis_server) as client:
        [key] = [key for key in client.scan_iter() if b"my_project" in key and (1001).to_bytes(8, "little") in key]
        assert client.hexists(key, "_version:driver_hourly_stats_fresh")
    run(repository, "feast", "teardown")
    with redis.Redis.from_url(redis_server) as client:
        assert client.dbsize() == 0


def test_the_templates_own_workflow_runs(repository: Path) -> None:
    printed = run(repository, "python", "test_workflow.py")
    assert "Online features again with updated values from a stream push" in printed
