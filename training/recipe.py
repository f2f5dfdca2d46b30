"""Recipe: everything that decides a training set, as plain data that a manifest and an artefact carry.

    recipe = of_bars("walkforward", files, form)          # inputs by name and SHA-256
    recipe = recipe.of(table)                             # … the split, and the known rows by their SHA-256
    lacking(recipe, settings)                             # why its rows cannot be made again, where they are not kept

The rows are what decides: they are kept as a file (`training.rows_file`). The inputs say what they were made of, and
are read again only where that file is not there, and only if they are what they were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from feature_repo.settings import Settings
from training import rows_file
from training.bar_files import BarForm
from training.dataset import Split, TrainingSet, Windows
from training.klines import KLINES


@dataclass(frozen=True)
class Recipe:
    """How a set is made."""

    quick: bool
    simulated: bool
    through: Literal["feast", "kernel"]
    bars: list[str] = field(default_factory=list)
    """Files, where it was made of any; how they are read; and the time after which nothing is learnt from."""
    form: dict[str, Any] = field(default_factory=dict)
    until_ns: int | None = None
    lake: dict[str, Any] = field(default_factory=dict)
    """Of a set of the deployment's lake: symbol, source, its first close where one was asked for, and its last."""
    test_share: float | None = None
    files: list[dict[str, str]] = field(default_factory=list)
    """Name and SHA-256 of each file that was read."""
    split: dict[str, Any] = field(default_factory=dict)
    """Shares of the rows, or the parts' first and last closes in ns."""
    rows: str = ""
    """SHA-256 of the known rows (`training.rows_file`)."""
    verb: str = ""
    """Whose set it is: train, walkforward, ablation or crash."""
    commit: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data, without what this set has not."""
        return {name: value for name, value in asdict(self).items() if value not in ([], {}, None, "")}

    def of(self, table: TrainingSet) -> Recipe:
        """With what only the set itself tells."""
        lake = {**self.lake, "end_ns": int(table.rows.close_ns[-1])} if self.lake else {}
        return replace(self, split=asdict(table.split), rows=rows_file.digest(table.rows), lake=lake)

    def nameless(self) -> dict[str, Any]:
        """As an artefact tells it: files by their names alone, for it names no machine's folders."""
        named = [_given(symbol, path.name) for symbol, path in map(_named, self.bars)]
        return replace(self, bars=named).as_dict()

    def at(self, settings: Settings) -> tuple[str, ...]:
        """Its files of bars, as given; the data folder's own klines by their name alone."""
        placed = [(symbol, settings.data_dir / KLINES if str(path) == KLINES.name and not path.exists() else path)
                  for symbol, path in map(_named, self.bars)]
        return tuple(_given(symbol, str(path)) for symbol, path in placed)

    def inputs(self, settings: Settings) -> list[Path]:
        """Where the files that it was made of are looked for."""
        if self.bars:
            return [_named(each)[1] for each in self.at(settings)]
        return [] if self.simulated or self.lake else [settings.data_dir / KLINES]


def of_bars(verb: str, files: Sequence[str | Path], form: BarForm, commit: str) -> Recipe:
    """Of files of bars, known one second after their close. They are read here, to be told by what is in them."""
    placed = [_given(symbol, str(path.absolute())) for symbol, path in map(_named, files)]
    held = [told(_named(each)[1]) for each in placed]
    return Recipe(False, False, "kernel", placed, asdict(form), files=held, verb=verb, commit=commit)


def told(path: Path) -> dict[str, str]:
    """A file by its name and what is in it. Raises `ValueError` where there is none."""
    if not path.is_file():
        raise ValueError(f"{path}: expected a file of bars, found {'a folder' if path.is_dir() else 'nothing'}")
    with path.open("rb") as file:
        return {"name": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def lacking(recipe: Recipe, settings: Settings) -> str | None:
    """Why the rows cannot be made again of what is here; None where they can."""
    inputs = recipe.inputs(settings)
    if recipe.bars and len(recipe.files) != len(recipe.bars):
        return "the recipe does not say what its files of bars held: it was kept before recipes did"
    if recipe.until_ns is not None and not recipe.split:
        return "the recipe does not say where its parts begin and end: it was kept before recipes did"
    for path, file in zip(inputs, recipe.files, strict=False):
        if not path.is_file():
            return f"its rows were made of {file['name']}, which is not at {path}"
        if told(path)["sha256"] != file["sha256"]:
            return f"its rows were made of {file['name']} with SHA-256 {file['sha256'][:12]}…, and {path} is another"
    return None


def split_of(plain: Mapping[str, Any]) -> Split | Windows:
    """The split that `Recipe.split` tells; the usual shares where it tells none."""
    if "embargo_ns" in plain or not plain:
        return Split(**plain)
    return Windows(**{part: None if span is None else (span[0], span[1]) for part, span in plain.items()})


def _given(symbol: str, path: str) -> str:
    return f"{symbol}={path}" if symbol else path


def _named(given: str | Path) -> tuple[str, Path]:
    """Symbol ("" where none is given) and path of FILE or SYMBOL=FILE."""
    symbol, separator, rest = str(given).partition("=")
    if separator and not Path(given).exists() and "/" not in symbol:
        return symbol, Path(rest)
    return "", Path(given)
