"""Spark: the one session of the streaming application, small enough for a machine that runs everything else too.

    spark = session("candlewick", settings)

Under `spark-submit` (YARN, Kubernetes, EMR, Databricks) master, memory and jars come from there; what is set
here are defaults that a configuration of the cluster overrides.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import psutil

from feature_repo import topics
from feature_repo.settings import LOOPBACK, ROOT, Settings

SCRATCH = "spark"
"""Below the run folder: a folder for each driver, by its process id."""
_STATE = "org.apache.spark.sql.execution.streaming"
FILE_CHECKPOINTS = f"{_STATE}.checkpointing.FileSystemBasedCheckpointFileManager"
ROCKSDB = f"{_STATE}.state.RocksDBStateStoreProvider"

# The second compiler shortens no batch of this size, but costs as much again of a core while it warms up.
JAVA = (
    "-Duser.timezone=UTC", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:ReservedCodeCacheSize=96m", "-Xss512k",
)


def session(name: str, settings: Settings) -> Any:
    """Start (or join) the session. Raises `FileNotFoundError` when the connector's jars are not there."""
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    # Workers import the processor's module: they must find this source tree wherever the driver was started.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    forget_dead(settings.run_dir / SCRATCH)
    builder = SparkSession.builder.appName(name)
    for key, value in options(settings).items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def forget_dead(scratch: Path) -> list[str]:
    """Remove what killed drivers left: Spark clears its scratch folder only when it ends in good order.

    Returns the names of the folders removed, which are the drivers' process ids.
    """
    dead = [folder for folder in sorted(scratch.glob("[0-9]*")) if not psutil.pid_exists(int(folder.name))]
    for folder in dead:
        shutil.rmtree(folder, ignore_errors=True)
    return [folder.name for folder in dead]


def options(settings: Settings) -> dict[str, str]:
    """Spark's configuration for one machine."""
    scratch = settings.run_dir / SCRATCH / str(os.getpid())
    return {
        # Two tasks read for the hot query and one for the lake's: none waits for the other's.
        "spark.master": "local[3]",
        "spark.driver.memory": "640m",
        "spark.driver.host": LOOPBACK,
        "spark.driver.bindAddress": LOOPBACK,
        "spark.driver.extraJavaOptions": " ".join(JAVA),
        "spark.jars": ",".join(map(str, connector_jars(settings.jars_dir))),
        "spark.local.dir": str(scratch),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.structuredLogging.enabled": "true",
        "spark.python.daemon.module": "streaming.worker_daemon",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.adaptive.enabled": "false",
        # The default writes each checkpoint file through a checksummed rename: 100 ms a batch on a local disk.
        "spark.sql.streaming.checkpointFileManagerClass": FILE_CHECKPOINTS,
        "spark.sql.streaming.stateStore.providerClass": ROCKSDB,
        "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
        "spark.sql.streaming.stateStore.rocksdb.boundedMemoryUsage": "true",
        "spark.sql.streaming.stateStore.rocksdb.maxMemoryUsageMB": "64",
        "spark.sql.streaming.noDataMicroBatches.enabled": "false",
        # Idle queries ask the broker for its offsets this often: at the default of 10 ms a tenth of a core each.
        "spark.sql.streaming.pollingDelay": "30ms",
        "spark.sql.streaming.numRecentProgressUpdates": "4",
        "spark.sql.streaming.minBatchesToRetain": "20",
        "spark.sql.codegen.cache.maxEntries": "50",
    }


def connector_jars(cache: Path) -> tuple[Path, ...]:
    """The Kafka connector's jars, as `infra.jars.resolve` left them."""
    found = tuple(sorted((cache / "spark").glob("*.jar")))
    if not found:
        raise FileNotFoundError(f"expected Spark's connector jars in {cache}/spark; run python -m infra.jars.resolve")
    return found


def kafka_records(
    spark: Any, settings: Settings, pattern: str, most: int, start: str = "earliest", tasks: int = 2,
) -> Any:
    """Records of the topics that match, from `start` on: at most `most` a batch, so that a backlog is bounded.

    So many tasks read all of them: one for each of fifty topics costs more than their second's records.
    Columns topic, partition, offset, kafka_timestamp, key, schema (the header), value. The topics are those of the
    settings' namespace, under their plain names.
    """
    prefix = topics.prefix(settings.namespace)
    source = spark.readStream.format("kafka").options(**{
        "kafka.bootstrap.servers": settings.kafka,
        "subscribePattern": f"{re.escape(prefix)}({pattern})",
        "startingOffsets": start,
        "maxOffsetsPerTrigger": str(most),
        "includeHeaders": "true",
        # What retention removed while we were away is a hole like any other; the stream must go on behind it.
        "failOnDataLoss": "false",
        # A backlog is read by both cores; what comes in a second is not worth a second task.
        "maxRecordsPerPartition": str(most // 2),
        # Spark asks for each partition's bounds behind a fetch that the broker holds open for so long.
        "kafka.fetch.max.wait.ms": "1",
    })
    return source.load().selectExpr(
        f"substring(topic, {len(prefix) + 1}) as topic", "partition", "offset", "timestamp as kafka_timestamp",
        "cast(key as string) as key",
        # Ours is the only header of our own records: the search is for strangers'.
        "cast(if(get(headers, 0).key = 'schema', get(headers, 0).value,"
        " get(filter(headers, h -> h.key = 'schema'), 0).value) as string) as schema", "value",
    ).coalesce(tasks)
