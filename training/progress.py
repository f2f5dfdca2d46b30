"""Progress: what a long run says while it runs, beside its result, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

Say = Callable[[str], None]


def silent(_line: str) -> None:
    """For callers that only want the result."""


def on_stderr() -> Say:
    """Lines on standard error, each with the seconds since now."""
    began = time.monotonic()

    def say(line: str) -> None:
        sys.stderr.write(f"{time.monotonic() - began:7.0f} s  {line}\n")
        sys.stderr.flush()

    return say
