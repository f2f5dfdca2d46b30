"""A killed driver's scratch folder does not outlive the next start; a living one's is its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from feature_repo.settings import Settings
from streaming import spark


def test_what_dead_drivers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    for name in (str(ended.pid), str(os.getpid()), "warehouse"):
        (tmp_path / name / "blockmgr").mkdir(parents=True)
    assert spark.forget_dead(tmp_path) == [str(ended.pid)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([str(os.getpid()), "warehouse"])
    assert spark.forget_dead(tmp_path / "never made") == []


def test_each_driver_has_a_scratch_folder_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "spark").mkdir()
    (tmp_path / "spark" / "connector.jar").touch()
    options = spark.options(Settings(run_dir=tmp_path, jars_dir=tmp_path))
    assert options["spark.local.dir"] == str(tmp_path / "spark" / str(os.getpid()))
