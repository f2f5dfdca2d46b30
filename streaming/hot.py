"""Hot processor: the symbol streams as a stateful operator of Spark, exact after any restart.

    packs.groupBy("shard").transformWithStateInPandas(HotProcessor("hot", ()), OUTPUT, "Append", "None")

A shard is the symbols that one group holds: a group costs pyspark some milliseconds of its own. The state is a pure
function of the trades topics, kept in the checkpoint: of each symbol what still waits, the rolling bars as raw chunks,
and the offset of the last record applied. Between batches the same state stays in this module, in the worker's memory,
and is used only if it is of the checkpoint's version. The module must be imported, never run as `__main__`: a global of
`__main__` is pickled anew with each task.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from pyspark.sql.streaming import StatefulProcessor, StatefulProcessorHandle

from streaming.collector import no_collection
from streaming.packs import unpack
from streaming.symbol_stream import KEPT_NS, Chunk, Output, SymbolStream, chunk_bytes, dump, load

INPUT = ("symbol", "topic", "partition", "offset", "pack")
OUTPUT = "topic string, key string, schema string, body binary, sequence binary, mirrors string"


@dataclass
class Shard:
    """The streams of a shard as they were after a version of its state."""

    version: int = 0
    """Batches that the shard has had."""
    retired: tuple[str, ...] = ()
    """The retired features that its streams compute."""
    streams: dict[str, SymbolStream] = field(default_factory=dict)


_WARM: dict[tuple[str, str], Shard] = {}
"""(query, shard) → its streams as of the last batch this worker ran."""


class HotProcessor(StatefulProcessor):  # type: ignore[misc]
    """The Spark side: state in, packs of events by offset, outputs and state out."""

    def __init__(self, query: str, retired: tuple[str, ...]) -> None:
        """`retired`: the retired features that are still to be computed."""
        self._query, self._retired = query, retired

    def init(self, handle: StatefulProcessorHandle) -> None:
        self._version = handle.getValueState("version", "version long")
        self._cursors = handle.getMapState("cursors", "symbol string", "partition int, offset long, body binary")
        self._chunks = handle.getMapState("chunks", "symbol string, span long, start long", "chunk binary")

    def handleInputRows(  # noqa: N802 Spark's name
        self, key: Any, rows: Iterator[pd.DataFrame], timerValues: Any,  # noqa: N803, ARG002
    ) -> Iterator[pd.DataFrame]:
        with no_collection():
            outputs = self._apply(key[0], rows)
        yield pd.DataFrame(outputs, columns=list(Output._fields))

    def close(self) -> None:
        """Nothing is held open."""

    def _apply(self, name: str, rows: Iterator[pd.DataFrame]) -> list[Output]:
        shard, outputs = self._shard(name), []
        # A task that fails from here on leaves no warm shard behind: the next one reads the checkpoint.
        _WARM.pop((self._query, name), None)
        for symbol, packs in _by_symbol(rows).items():
            stream = shard.streams.get(symbol) or SymbolStream.new(symbol, self._retired)
            outputs += stream.apply(unpack(packs))
            self._save(stream)
            shard.streams[symbol] = stream
        shard.version += 1
        self._version.update((shard.version,))
        _WARM[self._query, name] = shard
        return outputs

    def _shard(self, name: str) -> Shard:
        held = self._version.get()
        if held is None:
            return Shard(0, self._retired)
        warm = _WARM.get((self._query, name))
        if warm is not None and (warm.version, warm.retired) == (held[0], self._retired):
            return warm
        chunks: defaultdict[str, dict[Chunk, bytes]] = defaultdict(dict)
        for (symbol, span, start), (chunk,) in self._chunks.iterator():
            chunks[symbol][span, start] = bytes(chunk)
        return Shard(held[0], self._retired, {
            symbol: load(symbol, (partition, offset), bytes(body), chunks[symbol], self._retired)
            for (symbol,), (partition, offset, body) in self._cursors.iterator()
        })

    def _save(self, stream: SymbolStream) -> None:
        self._cursors.updateValue((stream.symbol,), (*stream.position, dump(stream)))
        for chunk in stream.changed:
            self._chunks.updateValue((stream.symbol, *chunk), (chunk_bytes(stream, chunk),))
        for span, start in stream.changed:
            # Remove the chunk that left the windows when this one came in.
            old = (stream.symbol, span, start - KEPT_NS[span])
            if self._chunks.containsKey(old):
                self._chunks.removeKey(old)
        stream.changed.clear()


def _by_symbol(rows: Iterator[pd.DataFrame]) -> dict[str, list[tuple[str, int, int, bytes]]]:
    """Symbol → its packs (topic, partition, first offset, pack)."""
    found: defaultdict[str, list[tuple[str, int, int, bytes]]] = defaultdict(list)
    for part in rows:
        for symbol, *packed in zip(*(part[name].tolist() for name in INPUT), strict=True):
            found[symbol].append(tuple(packed))
    return found
