"""Frames of a lap: the recorded text, moved in time and id, mirrored in odd laps, otherwise exactly as recorded.

A lap that moves nothing gives the recorded bytes themselves (`--original-time`). Otherwise only the numbers that
must change are changed and the frame is written as the venue writes it: compact, fields in the recorded order.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

from streaming.exchange_clock import Lap
from streaming.tape import MS, VENUE_DECIMALS, decimal_text, decimal_units

KEEP = 1024
MIRRORED_SIDES = {"b": "a", "a": "b", "B": "A", "A": "B"}


class Frames:
    """Texts of frames as streamed in a lap; the newest are kept, since every client wants the same ones."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, int], str] = OrderedDict()

    def stream(self, lap: Lap, position: int) -> str:
        """The stream name of the frame at that position."""
        tape = lap.section.tape
        return tape.streams[int(tape.stream[lap.section.frames[position]])]

    def combined(self, lap: Lap, position: int) -> str:
        """The frame as sent on `/stream`."""
        key = (lap.number, position)
        text = self._kept.get(key)
        if text is None:
            text = self._kept[key] = self._render(lap, int(lap.section.frames[position]))
            if len(self._kept) > KEEP:
                self._kept.popitem(last=False)
        return text

    def raw(self, lap: Lap, position: int) -> str:
        """The frame as sent on `/ws`: the payload alone."""
        prefix = len(f'{{"stream":"{self.stream(lap, position)}","data":')
        return self.combined(lap, position)[prefix:-1]

    def _render(self, lap: Lap, row: int) -> str:
        text = lap.section.tape.text(row)
        if lap.shift_ns == 0 and not lap.mirrored and lap.order == 0:
            return text
        frame = json.loads(text)
        data = frame["data"]
        symbol = data["s"]
        _move(data, lap.shift_ns // MS, lap.trade_offset[symbol], lap.update_offset[symbol])
        if lap.mirrored:
            section = lap.section.symbols[symbol]
            scale = section.tape.scale
            frame["data"] = _mirrored(data, section.mirror * 10 ** (VENUE_DECIMALS - scale.price), scale.price_written)
        return json.dumps(frame, separators=(",", ":"), ensure_ascii=False)


def _move(data: dict[str, Any], shift_ms: int, trade_offset: int, update_offset: int) -> None:
    offsets = {"E": shift_ms, "T": shift_ms, "t": trade_offset, "U": update_offset, "u": update_offset,
               "pu": update_offset}
    for name, offset in offsets.items():
        if name in data:
            data[name] += offset


def _mirrored(data: dict[str, Any], mirror: int, written: int) -> dict[str, Any]:
    """The payload with prices p → mirror − p (units of 1e-8), sides and taker exchanged; fields in the same order."""
    if data.get("e") == "trade":
        price = decimal_text(mirror - decimal_units(data["p"]), VENUE_DECIMALS, written)
        return data | {"p": price, "m": not data["m"]}
    other = {name: data[MIRRORED_SIDES[name]] for name in data if name in MIRRORED_SIDES}
    if data.get("e") == "depthUpdate":
        return data | {name: _mirrored_levels(other[name], mirror, written) for name in ("b", "a")}
    prices = {name: decimal_text(mirror - decimal_units(other[name]), VENUE_DECIMALS, written) for name in ("b", "a")}
    return data | other | prices


def _mirrored_levels(levels: list[list[str]], mirror: int, written: int) -> list[list[str]]:
    """Levels whose mirror image would not be a positive price lie outside the mirrored market and are left out."""
    moved = ((mirror - decimal_units(price), quantity) for price, quantity in levels)
    return [[decimal_text(price, VENUE_DECIMALS, written), quantity] for price, quantity in moved if price > 0]
