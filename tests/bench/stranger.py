"""A stranger's Feast repository on Redis: drivers, their statistics and push sources, as Feast's own template has them.

    there = Stranger(folder, port, "feature_repo.newest_wins.online_store.NewestWinsOnlineStore")
    there.apply(views=10, entities=1_000)
    there.open().push("driver_stats_push_0", rows(range(10), 2.0))

Each view has its own file with two rows a driver: an older and a newer one, told apart by their value.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from feature_repo.settings import ROOT

NOW = datetime.now(UTC).replace(microsecond=0)
OLDER, NEWER = NOW - timedelta(minutes=20), NOW - timedelta(minutes=10)
AT = {1.0: OLDER, 2.0: NEWER}
"""Value → event time of its row."""
START_S = 180.0

YAML = """\
project: strangers
provider: local
registry: data/registry_{name}.db
entity_key_serialization_version: 3
online_store:
  type: {type}
  connection_string: 127.0.0.1:{port}
offline_store:
  type: file
"""


@dataclass(frozen=True)
class Stranger:
    """One repository. `open` gives a FeatureStore of its own registry file, so that threads do not share one."""

    folder: Path
    port: int
    type: str

    def apply(self, views: int, entities: int) -> None:
        """Write the sources, and the registry by Feast's own `apply`."""
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        for view in range(views):
            both = pd.concat([rows(range(entities), value) for value in AT])
            both.to_parquet(self.folder / "data" / f"stats_{view}.parquet")
        self._open("0").apply(self._objects(views))

    def open(self, name: str = "0") -> Any:
        """A FeatureStore over a copy of the registry under this name."""
        data = self.folder / "data"
        copy = data / f"registry_{name}.db"
        if not copy.exists():
            copy.write_bytes((data / "registry_0.db").read_bytes())
        return self._open(name)

    @contextmanager
    def serve(self, port: int, workers: int = 2) -> Iterator[str]:
        """`feast serve` over the first registry. Gives its URL."""
        self._write_yaml("0")
        command = [
            str(Path(sys.executable).with_name("feast")), "serve", "-p", str(port), "--no-access-log",
            "--workers", str(workers), "--max-requests", "0", "--registry_ttl_sec", "600",
        ]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "FEAST_USAGE": "False"}
        with (self.folder / "serve.log").open("wb") as log, subprocess.Popen(
            command, cwd=self.folder, env=environ, stdout=log, stderr=log,
        ) as process:
            try:
                await_server(f"http://127.0.0.1:{port}/health", process)
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()

    def _open(self, name: str) -> Any:
        from feast import FeatureStore

        self._write_yaml(name)
        return FeatureStore(fs_yaml_file=self.folder / "feature_store.yaml", repo_path=str(self.folder))

    def _write_yaml(self, name: str) -> None:
        text = YAML.format(type=self.type, port=self.port, name=name)
        (self.folder / "feature_store.yaml").write_text(text)

    def _objects(self, views: int) -> list[Any]:
        from feast import Entity, FeatureView, Field, FileSource, PushSource, ValueType
        from feast.types import Float64

        driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
        made: list[Any] = [driver]
        for view in range(views):
            source = FileSource(
                name=f"stats_source_{view}", path=str(self.folder / "data" / f"stats_{view}.parquet"),
                timestamp_field="event_timestamp", created_timestamp_column="created",
            )
            push = PushSource(name=f"driver_stats_push_{view}", batch_source=source)
            made += [push, FeatureView(
                name=f"driver_stats_{view}", entities=[driver], ttl=timedelta(days=1), source=push,
                schema=[Field(name="conv_rate", dtype=Float64), Field(name="acc_rate", dtype=Float64)],
            )]
        return made


def rows(drivers: Any, value: float) -> pd.DataFrame:
    """A row for each driver, the older (1.0) or the newer (2.0)."""
    ids = list(drivers)
    return pd.DataFrame({
        "driver_id": ids, "conv_rate": value, "acc_rate": value, "event_timestamp": pd.Timestamp(AT[value]),
        "created": pd.Timestamp(AT[value]),
    }).astype({"driver_id": "int64"})


def post(url: str, body: dict[str, Any], timeout_s: float = 60.0) -> tuple[int, str]:
    """Status and body of an HTTP POST, errors included."""
    request = urllib.request.Request(  # noqa: S310  a loopback URL of our own
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def await_server(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the feature server answers."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310  a loopback URL of our own
                return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"expected feast serve at {url} within {START_S:.0f} s, found none") from error
            time.sleep(0.2)
