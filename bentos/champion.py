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
from feature_repo.features import SEQUENCE_FEATURES
from feature_repo.models import slots
from feature_repo.settings import Settings
from feature_repo.whole_folder import recover

log = structlog.get_logger()


@dataclass(frozen=True)
class Chosen:
    """The model that answers, and where it came from."""

    artefact: Artefact | None
    slot: str
    """champion | bootstrap | none."""
    fault: str | None = None

    @property
    def columns(self) -> tuple[int, ...]:
        """Where the inputs of the model that answers are in a stored sequence; all of it without a model."""
        return self.artefact.columns if self.artefact else tuple(range(len(SEQUENCE_FEATURES)))


def answering(settings: Settings) -> tuple[tuple[str, Path], ...]:
    """Where the model that answers may come from, best first."""
    return tuple((slot, folder) for slot, folder in slots(settings) if slot != "shadow")


def served_folder(settings: Settings) -> Path:
    """Where the model that is asked first lies, verified or not: what others compare with what it was trained on."""
    return next(folder for slot, folder in answering(settings) if slot != "champion" or folder.exists())


def choose_artefact(settings: Settings, refused: Callable[[str], None]) -> Chosen:
    """The first slot whose artefact verifies. A refusal is logged as an error and counted by `refused(slot)`."""
    fault = None
    for slot, folder in answering(settings):
        recover(folder)  # an installation may have been killed between two names
        if slot == "champion" and not folder.exists():
            continue
        try:
            return Chosen(load_artefact(folder), slot)
        except ModelRefused as error:
            fault = f"{slot} model refused: {error}"
            log.error("model refused", slot=slot, folder=str(folder), reason=str(error))
            refused(slot)
    return Chosen(None, "none", fault)
