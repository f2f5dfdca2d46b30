"""Hot processor: the symbol stream as a stateful operator of Spark, exact after any restart.

    packs.groupBy("symbol").transformWithStateInPandas(HotProcessor("hot", ()), OUTPUT, "Append", "None")

The state is a pure function of the trades topic, kept in the checkpoint: what still waits, the rolling bars as raw
chunks, and the offset of the last record applied. Between batches the same state stays in this module, in the
worker's memory, and is used only if its offset is the checkpoint's. The module must be imported, never run as
`__main__`: a global of `__main__` is pickled anew with each task.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from pyspark.sql.streaming import StatefulProcessor, StatefulProcessorHandle

from streaming.packs import unpack
from streaming.symbol_stream import KEPT_NS, Output, SymbolStream, chunk_bytes, dump, load

INPUT = ("topic", "partition", "offset", "pack")
OUTPUT = "topic string, key string, schema string, body binary, sequence binary, mirrors string"

_WARM: dict[tuple[str, str], tuple[tuple[str, ...], SymbolStream]] = {}
"""(query, symbol) → the retired features it computes, and its stream as of the last batch this worker ran."""


class HotProcessor(StatefulProcessor):  # type: ignore[misc]
    """The Spark side: state in, packs of events by offset, outputs and state out."""

    def __init__(self, query: str, retired: tuple[str, ...]) -> None:
        """`retired`: the retired features that are still to be computed."""
        self._query, self._retired = query, retired

    def init(self, handle: StatefulProcessorHandle) -> None:
        self._cursor = handle.getValueState("cursor", "partition int, offset long, body binary")
        self._chunks = handle.getMapState("chunks", "span long, start long", "chunk binary")

    def handleInputRows(  # noqa: N802 Spark's name
        self, key: Any, rows: Iterator[pd.DataFrame], timerValues: Any,  # noqa: N803, ARG002
    ) -> Iterator[pd.DataFrame]:
        stream = self._stream(key[0])
        # A task that fails from here on leaves no warm stream behind: the next one reads the checkpoint.
        _WARM.pop((self._query, key[0]), None)
        outputs = stream.apply(unpack(_packs(rows)))
        self._save(stream)
        _WARM[self._query, key[0]] = self._retired, stream
        yield pd.DataFrame(outputs, columns=list(Output._fields))

    def close(self) -> None:
        """Nothing is held open."""

    def _stream(self, symbol: str) -> SymbolStream:
        held = self._cursor.get()
        if held is None:
            return SymbolStream.new(symbol, self._retired)
        position = (held[0], held[1])
        retired, warm = _WARM.get((self._query, symbol), ((), None))
        if warm is not None and warm.position == position and retired == self._retired:
            return warm
        chunks = {tuple(k): bytes(v[0]) for k, v in self._chunks.iterator()}
        return load(symbol, position, bytes(held[2]), chunks, self._retired)

    def _save(self, stream: SymbolStream) -> None:
        self._cursor.update((*stream.position, dump(stream)))
        for chunk in stream.changed:
            self._chunks.updateValue(chunk, (chunk_bytes(stream, chunk),))
        if stream.changed:
            self._forget(stream)
        stream.changed.clear()

    def _forget(self, stream: SymbolStream) -> None:
        """Remove the chunks that left the windows when these came in."""
        for span, start in stream.changed:
            old = (span, start - KEPT_NS[span])
            if self._chunks.containsKey(old):
                self._chunks.removeKey(old)


def _packs(rows: Iterator[pd.DataFrame]) -> Iterator[tuple[str, int, int, bytes]]:
    for part in rows:
        yield from zip(*(part[name].tolist() for name in INPUT), strict=True)
