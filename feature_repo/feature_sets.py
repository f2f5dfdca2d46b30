"""Feature sets: which features the rows of some code hold, in their order, kept in the lake beside the rows.

    LakeWriter.declare()                          # whoever writes rows says once what they hold
    sets = Sets.open(lake)                        # this code's set, and those of the lake that this code can judge
    sets.of("63f3a1b2c4d5")                       # none where a feature is gone, or another thing by now

A row names its set by a hash, which tells no names. `<lake>/feature_sets/<set>-<hash>.json` does: each feature with the
hash of its definition, those that the set retired behind them. What an old formula was is known to no hash: a set can
be judged while each of its features is still declared, as it was then.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from feature_repo.catalogue import definitions
from feature_repo.contracts import StoreUnavailable
from feature_repo.features import FEATURE_SET, FEATURES, RETIRED
from feature_repo.lake_reader import Lake

FOLDER = "feature_sets"


@dataclass(frozen=True)
class Declared:
    """What some code declared: name → hash of the definition, in the order of its rows."""

    feature_set: str
    features: Mapping[str, str]
    """What `feature_set` is the hash of."""
    retired: Mapping[str, str]
    """Features of older sets that its rows hold as well, for as long as a served model reads them."""

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.features, *self.retired)

    @property
    def is_here(self) -> bool:
        """Whether each of its features is declared here as it was there; one that it had retired may be gone."""
        now = _here()
        return all(now.get(name) == of for name, of in self.features.items()) and all(
            now.get(name, of) == of for name, of in self.retired.items())

    @property
    def body(self) -> bytes:
        """As the lake keeps it."""
        told = {"feature_set": self.feature_set, "features": dict(self.features), "retired": dict(self.retired)}
        return json.dumps(told, indent=1).encode()

    @property
    def path(self) -> str:
        """Below the lake's root. The same declarations have the same name."""
        return f"{FOLDER}/{self.feature_set}-{hashlib.sha256(self.body).hexdigest()[:12]}.json"

    @classmethod
    def here(cls) -> Declared:
        """What this code declares."""
        now = _here()
        return cls(FEATURE_SET, {f.name: now[f.name] for f in FEATURES}, {f.name: now[f.name] for f in RETIRED})

    @classmethod
    def read(cls, body: bytes) -> Declared:
        """The inverse of `body`. Raises `ValueError`."""
        try:
            told = json.loads(body)
            return cls(str(told["feature_set"]), dict(told["features"]), dict(told["retired"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"expected feature_set, features and retired; found {error!r}") from error


@dataclass(frozen=True)
class Sets:
    """Sets whose every feature is declared here as it was there."""

    judged: tuple[Declared, ...]

    @classmethod
    def here(cls) -> Sets:
        """This code's set alone."""
        return cls((Declared.here(),))

    @classmethod
    def open(cls, lake: Lake) -> Sets:
        """This code's set and those that the lake tells of. Raises `StoreUnavailable`."""
        from pyarrow import fs

        selector = fs.FileSelector(f"{lake.root}/{FOLDER}", allow_not_found=True)
        told = [Declared.here()]
        try:
            for info in sorted(lake.filesystem.get_file_info(selector), key=lambda info: str(info.path)):
                if info.path.endswith(".json"):
                    with lake.filesystem.open_input_file(info.path) as file:
                        told.append(Declared.read(file.read()))
        except (OSError, ValueError) as error:
            raise StoreUnavailable(f"lake {lake.root}/{FOLDER}: expected declared features, found {error}") from error
        return cls(tuple({each.body: each for each in told if each.is_here}.values()))

    def of(self, feature_set: str) -> tuple[Declared, ...]:
        """What codes of a set declared, which may differ in what they had retired; none where it cannot be judged."""
        return tuple(each for each in self.judged if each.feature_set == feature_set)


@cache
def _here() -> Mapping[str, str]:
    return definitions()
