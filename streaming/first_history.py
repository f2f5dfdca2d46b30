"""First history: weeks of minute bars for symbols that were never followed here, while their stream already runs.

    history = FirstHistory(days=30, is_connected=lambda: ingest.link is not None)
    history.bring("SOLUSDT")
    history.cancel()                      # at the end

`streaming.lake_history` does it in a process of its own: Parquet's libraries would stay in this one.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence

import structlog

log = structlog.get_logger()


class FirstHistory:
    """Brings history of symbols; nothing when `days` is 0."""

    def __init__(self, days: int, is_connected: Callable[[], bool]) -> None:
        self._days, self._is_connected = days, is_connected
        self._filling: set[asyncio.Task[None]] = set()

    def bring(self, *symbols: str) -> None:
        """Begin with these symbols, once the venue is in reach. To be called in the event loop."""
        if symbols and self._days:
            task = asyncio.create_task(self._fill(symbols))
            self._filling.add(task)
            task.add_done_callback(self._filling.discard)

    def cancel(self) -> None:
        """End what has not ended."""
        for task in self._filling:
            task.cancel()

    async def _fill(self, symbols: Sequence[str]) -> None:
        while not self._is_connected():  # noqa: ASYNC110 - once, at the first start
            await asyncio.sleep(1.0)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "streaming.lake_history", "--days", str(self._days), "--symbols", *symbols)
        try:
            log.info("lake_history_ended", symbols=symbols, exit_code=await process.wait())
        finally:
            if process.returncode is None:
                process.terminate()
