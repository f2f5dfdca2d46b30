"""Fixtures for every test: the recorded market when its folder is there, a simulated one always."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import prometheus_client  # noqa: F401 before any test imports Feast, see `one_process`
import pytest
import structlog
from hypothesis import settings as hypothesis_settings

from feature_repo.settings import load_settings
from streaming.recording import Line, LineWriter
from streaming.simulator import simulate

# 2024-01-01 00:00 UTC less five seconds, so that whole minutes do not begin with the recording.
SIMULATED_BEGIN_NS = (1_704_067_200 - 5) * 1_000_000_000
SIMULATED_SECONDS = 130

ALONE = Path(__file__).parent / "integration"
"""Where `make test` looks for tests that run alone."""

# An example's 200 ms of wall time prove nothing where two processes share a core; what must be quick is measured by
# its benchmark.
hypothesis_settings.register_profile("shared", deadline=None)
hypothesis_settings.load_profile("shared")


@dataclass(frozen=True)
class Recorded:
    """The recorded market's files."""

    folder: Path

    def frames(self, symbol: str = "BTCUSDT") -> tuple[Path, ...]:
        """Raw spot frames of 2024-08-08 23:54:13 to 08-09 00:05:04, in order."""
        return tuple(sorted((self.folder / "ws_raw_binance").glob(f"spot_{symbol.lower()}_*.gz")))

    @property
    def klines_1m(self) -> Path:
        """Official BTCUSDT minute klines; `date` is the open."""
        return self.folder / "klines_binance" / "btcusdt_spot_1m.parquet"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where processes share the files, those with slow tests come first: none is left with a long one at the end.

    Raises `UsageError` where a test that must run alone would not be found by `make test`.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)
    if strays := [item.nodeid for item in items if item.get_closest_marker("alone") and ALONE not in item.path.parents]:
        raise pytest.UsageError(f"tests that run alone are expected in {ALONE}, found {', '.join(strays)}")


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing Feast tells prometheus_client, by the environment, that metrics are shared by many processes."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.delenv("PROMETHEUS_MULTIPROCESS_DIR", raising=False)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of recorded data; the test is skipped where there is none."""
    folder = load_settings().data_dir
    if not folder.is_dir():
        pytest.skip(f"no recorded data at {folder}: set CANDLEWICK_DATA_DIR")
    return folder


@pytest.fixture(scope="session")
def recorded(data_dir: Path) -> Recorded:
    """The recorded market; the test is skipped where the folder lacks it."""
    found = Recorded(data_dir)
    if not found.frames() or not found.klines_1m.is_file():
        pytest.skip(f"no recorded Binance spot frames and klines under {data_dir}")
    return found


@pytest.fixture(scope="session")
def simulated_frames() -> list[Line]:
    """130 simulated seconds of BTCUSDT from 2023-12-31 23:59:55, two whole minutes: the venue's frames, in order."""
    return list(simulate("BTCUSDT", 7, SIMULATED_BEGIN_NS, SIMULATED_SECONDS, trade_rate=10.0))


@pytest.fixture(scope="session")
def simulated_file(simulated_frames: list[Line], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same frames as a recording on disk."""
    path = tmp_path_factory.mktemp("simulated") / "spot_btcusdt_20231231.zst"
    with LineWriter(path) as writer:
        for line in simulated_frames:
            writer.write(line)
    return path


@pytest.fixture
def every_log() -> Iterator[None]:
    """Lines of all levels reach `capture_logs`, whatever level an earlier test's process was set up with."""
    before = structlog.get_config()
    structlog.reset_defaults()
    yield
    structlog.configure(**before)
