"""Serving finds its model although an installation was killed while nothing lay in its place."""

from __future__ import annotations

from pathlib import Path

from bentos.champion import choose_artefact
from feature_repo.settings import Settings
from tests.bentos.made import made_artefact


def test_a_model_that_a_killed_installation_left_aside_is_served(tmp_path: Path) -> None:
    settings = Settings(run_dir=tmp_path / "run", model_dir=tmp_path / "shipped")
    made_artefact(tmp_path / ".shipped.old")
    refused: list[str] = []
    chosen = choose_artefact(settings, refused.append)
    assert (chosen.slot, refused, chosen.fault) == ("bootstrap", [], None)
    assert [path.name for path in tmp_path.iterdir()] == ["shipped"]
