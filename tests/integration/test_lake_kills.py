"""Every writer of the lake killed -9 at 24 points, in processes of their own, on a file system and on S3 (S8, S12)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from feature_repo.lake_reader import Lake
from feature_repo.settings import ROOT
from tests.integration.conftest import S3
from tests.streaming.lake_faults import EVER, WRITERS, check_kills, count_points, kill_at, lake_writer, spread

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]
POINTS = 24


@pytest.mark.parametrize("name", WRITERS)
def test_killed_on_a_file_system_each_row_is_there_once(name: str, tmp_path: Path) -> None:
    check(name, tmp_path.as_uri(), "")


@pytest.mark.parametrize("name", WRITERS)
def test_killed_on_s3_each_row_is_there_once(name: str, moto_s3: S3) -> None:
    check(name, moto_s3.lake_url, moto_s3.endpoint)


def check(name: str, root: str, endpoint: str) -> None:
    counted = f"{root}/counted"
    WRITERS[name].prepare(lake_writer(counted, endpoint))
    points = spread(count_points(name, counted, endpoint), POINTS)
    assert len(points) >= 20
    check_kills(
        name, lambda part: f"{root}/{part}", endpoint, points, lambda url, at: kill_at(name, url, endpoint, at))


# Through Arrow's own file system: deltalake's is Python called from Arrow's threads, and one of them may still want the
# interpreter while it ends ("terminate called without an active exception").
READ = """import json, sys; from deltalake import DeltaTable; from pyarrow.fs import SubTreeFileSystem
from feature_repo.lake_layout import filesystem; from streaming.delta import storage_options
url, endpoint = sys.argv[1:]; files, folder = filesystem(url, endpoint)
rows = DeltaTable(url, storage_options=storage_options(endpoint)).to_pyarrow_table(
    filesystem=SubTreeFileSystem(folder, files))
print(json.dumps(sorted(zip(rows["ts_event"].to_pylist(), rows["created"].to_pylist()))))"""


def test_a_zone_becomes_a_delta_table_on_s3(moto_s3: S3) -> None:
    pytest.importorskip("deltalake", reason="left out: deltalake is not installed (make delta)")
    WRITERS["merge"].prepare(lake_writer(moto_s3.lake_url, moto_s3.endpoint))
    table = f"s3://{moto_s3.bucket}/delta"

    def run(*words: str) -> Any:
        # Another process: deltalake holds the interpreter while it waits for the server, which is a thread of this one.
        at = {"CANDLEWICK_LAKE_URL": moto_s3.lake_url, "CANDLEWICK_S3_ENDPOINT": moto_s3.endpoint}
        done = subprocess.run([sys.executable, *words], cwd=ROOT, env={**os.environ, **at}, capture_output=True,
                              text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)

    for _ in range(2):
        assert run("candlewick.py", "lake", "delta", "clean", "--table", table, "--json")["rows"] == 29
    held = Lake.open(moto_s3.lake_url, moto_s3.endpoint).read("clean", "BTCUSDT", *EVER)
    assert [tuple(row) for row in run("-c", READ, table, moto_s3.endpoint)] == list(
        zip(held["ts_event"].to_pylist(), held["created"].to_pylist(), strict=True))
