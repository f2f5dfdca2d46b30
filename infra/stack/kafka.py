"""Kafka: one KRaft broker on the loopback address, its settings and how to tell that it answers.

    prepare(settings)            # once: server.properties and formatted storage under <run_dir>/kafka
    command(settings)            # what to run: a plain Java process, no shell wrapper
    ready(settings)              # whether it answers metadata requests

Stored messages, the cluster id and the node's identity live in `<run_dir>/kafka`; deleting it makes a new cluster.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path
from xml.sax.saxutils import quoteattr

from feature_repo.settings import LOOPBACK, Settings
from infra.jars.resolve import jars, java

# One fixed id: the data folder says which cluster it is, and a run directory has exactly one.
CLUSTER_ID = "Y2FuZGxld2ljay1sb2NhbA"
HEAP = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
FORMAT_TIMEOUT_S = 60
FREE_MB = 64
"""Below this the broker is not started: it would fail at its next segment, and say so in fifty lines."""
# One JSON object a line, as every other component of the product logs.
LOG_LINE = (
    '{"timestamp":"%d{yyyy-MM-dd}{UTC}T%d{HH:mm:ss.SSS}{UTC}Z","level":"%p","component":"kafka",'
    '"logger":"%c{1}","event":"%enc{%m}{JSON}%enc{%throwable}{JSON}"}%n'
)
LOG4J = f"""<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="ERROR">
  <Appenders>
    <Console name="stderr" target="SYSTEM_ERR">
      <PatternLayout pattern={quoteattr(LOG_LINE)} alwaysWriteExceptions="false"/>
    </Console>
  </Appenders>
  <Loggers><Root level="warn"><AppenderRef ref="stderr"/></Root></Loggers>
</Configuration>
"""


def home(settings: Settings) -> Path:
    return settings.run_dir / "kafka"


def properties(settings: Settings) -> dict[str, str]:
    """The broker's settings: one node that is broker and controller, nothing beyond this machine."""
    ports = settings.ports
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{LOOPBACK}:{ports.kafka_controller}",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{ports.kafka},CONTROLLER://{LOOPBACK}:{ports.kafka_controller}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{ports.kafka}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(home(settings) / "data"),
        "auto.create.topics.enable": "false",
        "default.replication.factor": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        # The default buffer is larger than the heap.
        "log.cleaner.dedupe.buffer.size": str(8 * 1024 * 1024),
        "log.segment.bytes": str(64 * 1024 * 1024),
        "message.max.bytes": str(4 * 1024 * 1024),
        "num.network.threads": "2",
        "num.io.threads": "2",
        # A killed broker registers again only when its old session has run out; the default costs 9 s.
        "broker.session.timeout.ms": "5000",
        "broker.heartbeat.interval.ms": "1000",
    }


def prepare(settings: Settings) -> None:
    """Write `server.properties` and format the storage when it is new.

    Raises `RuntimeError` when Kafka refuses, `ValueError` when the disk has no room for it to start.
    """
    folder = home(settings)
    folder.mkdir(parents=True, exist_ok=True)
    free_mb = shutil.disk_usage(folder).free // 1_000_000
    if free_mb < FREE_MB:
        raise ValueError(f"kafka: expected {FREE_MB} MB free for {folder}, found {free_mb}; "
                         "delete what is not needed there: it starts by itself when there is room")
    config = folder / "server.properties"
    config.write_text("".join(f"{name}={value}\n" for name, value in properties(settings).items()))
    (folder / "log4j2.xml").write_text(LOG4J)
    if not (folder / "data" / "meta.properties").exists():
        _format(settings, config)


def _format(settings: Settings, config: Path) -> None:
    arguments = ["format", "-t", CLUSTER_ID, "-c", str(config), "--ignore-formatted"]
    done = subprocess.run(
        [*_java(settings), "kafka.tools.StorageTool", *arguments],
        capture_output=True, text=True, timeout=FORMAT_TIMEOUT_S, check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"Kafka refused to format {home(settings) / 'data'}: {(done.stderr or done.stdout)[-800:]}")


def command(settings: Settings) -> list[str]:
    """The broker's process; SIGTERM stops it cleanly. `prepare` comes first."""
    return [*_java(settings), "kafka.Kafka", str(home(settings) / "server.properties")]


def _java(settings: Settings) -> list[str]:
    classpath = ":".join(str(path) for path in jars("broker", settings.jars_dir))
    return [java(), *HEAP, f"-Dlog4j2.configurationFile={home(settings) / 'log4j2.xml'}", "-cp", classpath]


def ready(settings: Settings) -> bool:
    """Whether the broker answers a metadata request within 2 s."""
    from kafka.admin import KafkaAdminClient
    from kafka.errors import KafkaError

    if not _listens(settings):
        return False
    try:
        admin = KafkaAdminClient(
            bootstrap_servers=settings.kafka.split(","), client_id="candlewick-probe",
            request_timeout_ms=2000, bootstrap_timeout_ms=2000,
        )
    except (KafkaError, OSError, ValueError):
        return False
    try:
        admin.list_topics()
    except (KafkaError, OSError):
        return False
    finally:
        admin.close()
    return True


def _listens(settings: Settings) -> bool:
    # A client that finds nobody leaves its sockets to the garbage collector: look first.
    host, port = settings.kafka.split(",")[0].rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        return False
    return True
