"""Collector: Python's garbage collector kept out of work that makes many objects and no cycles.

    with no_collection():
        ticks = [read(body) for body in bodies]

It looks through everything that is alive whenever enough has been made: a batch's records again and again.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collection() -> Iterator[None]:
    """Without the collector; afterwards it is as it was.

    >>> with no_collection():
    ...     gc.isenabled()
    False
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
