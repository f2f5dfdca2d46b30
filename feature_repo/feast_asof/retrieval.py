"""Historical features: each view's request, one join for views that share source and keys, the table of answers.

Feast's words are put into the source's here: references, aliases, join-key maps, field mappings, TTLs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast.data_source import DataSource
from feast.errors import FeastEntityDFMissingColumnsError
from feast.feature_view import DUMMY_ENTITY_ID, FeatureView

from .columns import comparable, plain
from .entities import TIME, Entities
from .history import MANY_KEYS, History, Wanted, bounds, nanoseconds, time_columns
from .join import Ints, as_of

Reader = Callable[[DataSource, Wanted], History]


@dataclass(frozen=True)
class Request:
    """What is asked of one view, in the source's words."""

    source: DataSource
    keys: Mapping[str, str]
    """The entity rows' column of each join key, and the source's."""
    features: Mapping[str, str]
    """The answer's column of each feature, and the source's."""
    ttl_ns: int | None
    """How old an answer may be; null for no limit."""

    @classmethod
    def of(cls, view: FeatureView, refs: Sequence[str], full_names: bool) -> Request:
        """The part of the references that is this view's. Raises `ValueError` for a view without a source."""
        source = view.batch_source
        if source is None:
            raise ValueError(f"expected a batch source behind feature view {view.name!r}, found none: no history")
        stored = {mapped: name for name, mapped in (source.field_mapping or {}).items()}
        prefix = f"{view.projection.name_alias or view.name}__" if full_names else ""
        names = dict.fromkeys(name for ref in refs if (name := _feature(ref, view.projection.name_to_use())))
        aliases = view.projection.join_key_map
        return cls(
            source, {aliases.get(name, name): stored.get(name, name) for name in join_keys(view)},
            {prefix + name: stored.get(name, name) for name in names}, _nanos(getattr(view, "ttl", None)),
        )


def retrieve(
    reader: Reader, views: Sequence[FeatureView], refs: Sequence[str], entities: Entities,
    full_names: bool, by_created: bool,
) -> pa.Table:
    """Entity rows with the features beside them, in the order of the views and the references."""
    requests = [Request.of(view, refs, full_names) for view in views]
    _check(requests, entities)
    together: dict[tuple[DataSource, tuple[tuple[str, str], ...]], list[Request]] = defaultdict(list)
    for request in requests:
        together[request.source, tuple(request.keys.items())].append(request)
    answers: dict[str, pa.ChunkedArray] = {}
    for group in together.values():
        answers |= _answer(reader, group, entities, by_created)
    table = entities.rows
    for name in (name for request in requests for name in request.features):
        table = table.append_column(name, answers[name])
    return table


def seen(reader: Reader, views: Sequence[FeatureView], start: datetime, end: datetime) -> Entities:
    """Each entity at each event time it has in [start, end], as of that time. Views must share their join keys."""
    tables = [_seen(reader, Request.of(view, [], full_names=False), start, end) for view in views]
    if len({tuple(sorted(table.column_names)) for table in tables}) > 1:
        found = [sorted(table.column_names) for table in tables]
        raise ValueError(f"expected views of the same join keys without entity rows, found {found}; pass entity rows")
    return Entities.distinct(pa.concat_tables([table.select(tables[0].column_names) for table in tables]))


def join_keys(view: FeatureView) -> list[str]:
    """A view's join keys by their own names; none for a view without entities."""
    return [column.name for column in view.entity_columns if column.name != DUMMY_ENTITY_ID]


def _seen(reader: Reader, request: Request, start: datetime, end: datetime) -> pa.Table:
    event, created = time_columns(request.source)
    first, last = nanoseconds(start), nanoseconds(end)
    held = reader(request.source, Wanted(list(request.keys.values()), event, created, first, last))
    inside = held.within(first, last)
    keys = {asked: plain(inside.rows[name]) for asked, name in request.keys.items()}
    return pa.table({**keys, TIME: pa.array(inside.times.event).cast(pa.timestamp("ns", "UTC"))})


def _answer(
    reader: Reader, group: Sequence[Request], entities: Entities, by_created: bool,
) -> dict[str, pa.ChunkedArray]:
    """Answers of views of one source and the same keys: one scan and one join, then each view's TTL."""
    first = group[0]
    held = reader(first.source, _wanted(group, entities, by_created))
    pairs = [comparable(held.rows[name], entities.rows[asked], asked) for asked, name in first.keys.items()]
    found = as_of([left for left, _ in pairs], held.times, [right for _, right in pairs], entities.at)
    answers: dict[str, pa.ChunkedArray] = {}
    for request in group:
        rows = _fresh(found, held.times.event, entities.at, request.ttl_ns)
        taken = pa.array(rows, mask=rows < 0)
        answers |= {name: held.rows[stored].take(taken) for name, stored in request.features.items()}
    return answers


def _wanted(group: Sequence[Request], entities: Entities, by_created: bool) -> Wanted:
    keys = group[0].keys
    event, created = time_columns(group[0].source)
    columns = [*keys.values(), *(name for request in group for name in request.features.values())]
    ends = bounds(entities.at)
    if ends is None:  # nobody asks: no row, but the columns' types
        return Wanted(columns, event, created, first=1, last=0, by_created=by_created)
    ttls = [request.ttl_ns for request in group]
    oldest = None if None in ttls else ends[0] - max(ttl for ttl in ttls if ttl is not None)
    values = {stored: pc.unique(plain(entities.rows[asked]).drop_null()) for asked, stored in keys.items()}
    few = {stored: distinct for stored, distinct in values.items() if len(distinct) <= MANY_KEYS}
    return Wanted(columns, event, created, oldest, ends[1], ends[1], by_created, few)


def _fresh(found: Ints, event: Ints, at: Ints, ttl_ns: int | None) -> Ints:
    """The rows of `found` that are not older than the TTL; −1 for the others."""
    if ttl_ns is None or not len(event):
        return found
    return np.where((found >= 0) & (at - event[found] <= ttl_ns), found, -1)


def _check(requests: Sequence[Request], entities: Entities) -> None:
    have = entities.rows.column_names
    needed = {name for request in requests for name in request.keys}
    if missing := needed - set(have):
        raise FeastEntityDFMissingColumnsError(needed, missing)
    names = [*have, *(name for request in requests for name in request.features)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"expected each column once, found {twice} more than once; ask with full_feature_names=True")


def _feature(ref: str, view: str) -> str | None:
    """The feature of a reference to a view, else null.

    >>> [_feature(ref, "stats") for ref in ("stats:trips", "stats@latest:trips", "stats@v2:trips")]
    ['trips', 'trips', None]
    """
    name, _, feature = ref.partition(":")
    return feature if name.removesuffix("@latest") == view else None


def _nanos(ttl: timedelta | None) -> int | None:
    return ttl // timedelta(microseconds=1) * 1000 if ttl else None
