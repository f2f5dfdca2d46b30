"""Champion: which model answers: the promoted one when it can be trusted, else the one that ships.

    chosen = choose_artefact(settings, refused=lambda slot: …)
    chosen.artefact     # None: neither could be trusted, and `chosen.fault` says why
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from bentos.artefact import Artefact, load_artefact
from feature_repo.contracts import ModelRefused
from feature_repo.settings import Settings

log = structlog.get_logger()


@dataclass(frozen=True)
class Chosen:
    """The model that answers, and where it came from."""

    artefact: Artefact | None
    slot: str
    """champion | bootstrap | none."""
    fault: str | None = None


def slots(settings: Settings) -> tuple[tuple[str, Path], ...]:
    """Where a model may come from, best first."""
    return (("champion", settings.run_dir / "models" / "champion"), ("bootstrap", settings.model_dir))


def served_folder(settings: Settings) -> Path:
    """Where the model that is asked first lies, verified or not: what others compare with what it was trained on."""
    return next(folder for slot, folder in slots(settings) if slot != "champion" or folder.exists())


def choose_artefact(settings: Settings, refused: Callable[[str], None]) -> Chosen:
    """The first slot whose artefact verifies. A refusal is logged as an error and counted by `refused(slot)`."""
    fault = None
    for slot, folder in slots(settings):
        if slot == "champion" and not folder.exists():
            continue
        try:
            return Chosen(load_artefact(folder), slot)
        except ModelRefused as error:
            fault = f"{slot} model refused: {error}"
            log.error("model refused", slot=slot, folder=str(folder), reason=str(error))
            refused(slot)
    return Chosen(None, "none", fault)
