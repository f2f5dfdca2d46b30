"""Worker daemon: Spark's own, with the processor imported before it forks, so that workers start at once and share it.

    spark.python.daemon.module=streaming.worker_daemon

A worker that imports pandas, Arrow and the kernel by itself starts seconds later and holds 100 MB of its own.
"""

from __future__ import annotations

import gc

from pyspark import daemon

import streaming.hot  # noqa: F401 imported for the workers forked below

if __name__ == "__main__":
    # What is imported stays: no worker's collector looks through it, or writes to pages that they share.
    gc.freeze()
    daemon.manager()
