"""Derive: schemas of other languages, made from the message classes.

`python -m feature_repo.derive` writes the committed copies under `feature_repo/schemas/` and the documentation's
`docs/features.md`; with `--check` it fails when a copy differs, which is what CI runs.

    >>> from feature_repo.contracts import Trade
    >>> [f["name"] for f in avro_schema(Trade)["fields"]][:3]
    ['symbol', 'ts_event', 'ts_init']
"""

from __future__ import annotations

import json
import math
import sys
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from feature_repo.contracts import API_MESSAGES, WIRE_MESSAGES, Message
from feature_repo.features import FEATURE_SET, FEATURES, Expectation
from feature_repo.slow_features import SLOW_VIEWS

SCHEMAS = Path(__file__).parent / "schemas"
DOCS = Path(__file__).parent.parent / "docs"
NAMESPACE = "candlewick"
_AVRO = {int: "long", float: "double", str: "string", bool: "boolean", bytes: "bytes"}
_SPARK = {int: "long", float: "double", str: "string", bool: "boolean", bytes: "binary"}


def avro_schema(kind: type[Message]) -> dict[str, Any]:
    """Avro record schema of a message class; nullable fields default to null."""
    return _avro_record(kind, {f"{NAMESPACE}.{kind.__name__}"})


def _avro_record(kind: type[BaseModel], seen: set[str]) -> dict[str, Any]:
    records = [_avro_field(field_name, info, seen) for field_name, info in kind.model_fields.items()]
    return {"type": "record", "name": kind.__name__, "namespace": NAMESPACE, "fields": records}


def _avro_reference(kind: type[BaseModel], seen: set[str]) -> dict[str, Any] | str:
    """A nested record is spelled out once; Avro names it from then on."""
    name = f"{NAMESPACE}.{kind.__name__}"
    if name in seen:
        return name
    seen.add(name)
    return _avro_record(kind, seen)


def _avro_field(name: str, info: Any, seen: set[str]) -> dict[str, Any]:
    record = {"name": name, "type": _avro_type(info.annotation, seen)}
    if _is_nullable(info.annotation):
        record["default"] = None
    elif not info.is_required():
        record["default"] = info.default
    return record


def _avro_type(annotation: Any, seen: set[str]) -> Any:
    plain = _plain(annotation)
    if _is_nullable(plain):
        return ["null", _avro_type(_non_null(plain), seen)]
    if get_origin(plain) is list:
        return {"type": "array", "items": _avro_type(get_args(plain)[0], seen)}
    if get_origin(plain) is dict:
        return {"type": "map", "values": _avro_type(get_args(plain)[1], seen)}
    if get_origin(plain) is Literal:
        return _AVRO[type(get_args(plain)[0])]
    if isinstance(plain, type) and issubclass(plain, BaseModel):
        return _avro_reference(plain, seen)
    return _AVRO[plain]


def spark_schema(kind: type[Message]) -> dict[str, Any]:
    """Spark schema of a message class as the JSON that `StructType.fromJson` reads."""
    fields = [
        {"name": name, "type": _spark_type(info.annotation), "nullable": _is_nullable(info.annotation), "metadata": {}}
        for name, info in kind.model_fields.items()
    ]
    return {"type": "struct", "fields": fields}


def _spark_type(annotation: Any) -> Any:
    plain = _plain(annotation)
    if _is_nullable(plain):
        return _spark_type(_non_null(plain))
    if get_origin(plain) is list:
        item = get_args(plain)[0]
        return {"type": "array", "elementType": _spark_type(item), "containsNull": _is_nullable(item)}
    if get_origin(plain) is dict:
        value = get_args(plain)[1]
        return {
            "type": "map", "keyType": "string", "valueType": _spark_type(value),
            "valueContainsNull": _is_nullable(value),
        }
    if get_origin(plain) is Literal:
        return _SPARK[type(get_args(plain)[0])]
    if isinstance(plain, type) and issubclass(plain, BaseModel):
        return spark_schema(plain)  # type: ignore[arg-type]
    return _SPARK[plain]


def openapi() -> dict[str, Any]:
    """OpenAPI 3.1 components of every message that crosses HTTP or WebSocket."""
    _, schema = models_json_schema(
        [(kind, "serialization") for kind in API_MESSAGES], ref_template="#/components/schemas/{model}",
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "Candlewick messages", "version": "1"},
        "paths": {},
        "components": {"schemas": schema["$defs"]},
    }


def features_document() -> dict[str, Any]:
    """What a page needs to show a feature row: every declaration without its code, FEATURES order."""
    shown = ("name", "family", "unit", "window_s", "requires", "formula")
    return {
        "feature_set": FEATURE_SET,
        "features": [{name: getattr(feature, name) for name in shown} for feature in FEATURES],
    }


def features_page() -> str:
    """The documentation's table of features, Markdown."""
    rows = [
        f"| `{f.name}` | {f.family} | {f.unit} | {f.window_s} | `{f.requires}` | {f.formula.replace('|', '&#124;')} "
        f"| {_bounds(f.expects)} |"
        for f in FEATURES
    ]
    return "\n".join([
        "# Features", "",
        f"Made from `FEATURES` (feature set `{FEATURE_SET}`) by `make generate`; do not edit.",
        "C is a close, V a volume, m the last whole minute; a window in seconds ends at the row's close.",
        "What a feature `requires` and the source lacks makes it null with that reason, never zero.", "",
        "A value is expected within the bounds of the last column, in 95 % of the rows that could know it, and no more",
        "than a minute older than the newest row. `candlewick quality` reports what misses that; no value is altered.",
        "",
        "| name | family | unit | window, s | requires | formula | expected |", "|---|---|---|---|---|---|---|",
        *rows, "", *_slow_page(),
    ])


def _slow_page() -> list[str]:
    """The tables of slow views: one a view, and what holds of all its rows above it."""
    lines = [
        "# Slow features", "",
        "Made from `SLOW_VIEWS`; what they are made of and when it is known: [slow-views.md](slow-views.md).",
        "e is the moment that a row describes, n a session of New York's.", "",
    ]
    for view in SLOW_VIEWS:
        lag, ttl = _span(view.lag_ns), _span(view.ttl_ns)
        known = f"A backfilled row is known {lag} after e; {ttl} after it none is an answer."
        lines += [
            f"## `{view.name}_features`", "", f"{view.description[0].upper()}{view.description[1:]}. {known}", "",
            "| name | unit | formula | expected |", "|---|---|---|---|",
            *(f"| `{f.name}` | {f.unit} | {f.formula} | {_bounds(f.expects)} |" for f in view.features), "",
        ]
    return lines


def _span(ns: int) -> str:
    """A span of time in its largest whole unit.

    >>> _span(86_400 * 10**9), _span(300 * 10**9)
    ('1 d', '5 min')
    """
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if ns % (size * 10**9) == 0:
            return f"{ns // (size * 10**9)} {unit}"
    return f"{ns / 10**9:g} s"


def _bounds(expects: Expectation) -> str:
    """The bounds of an expectation, as the documentation writes them.

    >>> from feature_repo.features import Expectation
    >>> _bounds(Expectation(0.0)), _bounds(Expectation(-1.0, 1.0))
    ('≥ 0', '−1 … 1')
    """
    low, high = (f"{bound:g}".replace("-", "−") for bound in (expects.low, expects.high))
    if math.isinf(expects.high):
        return "any" if math.isinf(expects.low) else f"≥ {low}"
    return f"{low} … {high}"


def _plain(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def _is_nullable(annotation: Any) -> bool:
    plain = _plain(annotation)
    return get_origin(plain) in (Union, types.UnionType) and type(None) in get_args(plain)


def _non_null(annotation: Any) -> Any:
    return next(arg for arg in get_args(_plain(annotation)) if arg is not type(None))


def copies() -> dict[Path, str]:
    """Every committed copy: path → text."""
    avro = {SCHEMAS / "avro" / f"{kind.__name__}.avsc": avro_schema(kind) for kind in WIRE_MESSAGES}
    spark = {SCHEMAS / "spark" / f"{kind.__name__}.json": spark_schema(kind) for kind in WIRE_MESSAGES}
    documents = {**avro, **spark, SCHEMAS / "openapi.json": openapi(), SCHEMAS / "features.json": features_document()}
    texts = {path: json.dumps(document, indent=2, ensure_ascii=False) + "\n" for path, document in documents.items()}
    return texts | {DOCS / "features.md": features_page()}


def stale() -> list[Path]:
    """The committed copies that differ from their source, or are not there."""
    return [path for path, text in copies().items() if not path.exists() or path.read_text() != text]


def main(check: bool) -> int:
    """Write the copies, or compare them; the number of copies that differ is the exit code's cause."""
    if check:
        differing = stale()
        for path in differing:
            print(f"{path.relative_to(SCHEMAS.parent.parent)} differs from the contracts: run `make generate`")
        return 1 if differing else 0
    for path, text in copies().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
