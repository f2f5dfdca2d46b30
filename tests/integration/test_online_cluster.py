"""The online store on a Redis cluster."""

from __future__ import annotations

import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import redis
from feast.protos.feast.types.Value_pb2 import Value

from infra.stack.redis import program
from tests.integration.anyones_store import There, key, view
from tests.integration.conftest import await_redis
from tests.integration.streaming_stack import until as await_answer

pytestmark = pytest.mark.integration


def port_with_a_bus() -> int:
    """A free port below 55,536 whose bus, 10,000 above it, is free too."""
    for _ in range(100):
        with closing(socket.socket()) as client, closing(socket.socket()) as bus, suppress(OSError, OverflowError):
            client.bind(("127.0.0.1", secrets.randbelow(20_000) + 20_000))
            port: int = client.getsockname()[1]
            bus.bind(("127.0.0.1", port + 10_000))
            return port
    raise RuntimeError("expected two free ports 10,000 apart, found none in 100 tries")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[int]:
    """The port of a cluster of one node. The bus takes the port 10,000 above it."""
    port, server = port_with_a_bus(), program()
    assert server is not None
    options = ["--port", str(port), "--save", "", "--cluster-enabled", "yes", "--bind", "127.0.0.1"]
    with subprocess.Popen([server, *options], cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        try:
            await_redis(port)
            with redis.Redis(port=port) as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
                await_answer(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"), 60, "a cluster")
            yield port
        finally:
            process.terminate()


async def test_a_cluster_is_written_and_read(cluster: int) -> None:
    there = There(cluster, redis_type="redis_cluster")
    there.write(view(), *((key(driver_id=driver), 1.0, 5) for driver in range(5)))
    there.write(view(), *((key(driver_id=driver), 2.0, 9) for driver in range(5)))
    assert [there.rate(view(), key(driver_id=driver)) for driver in range(6)] == [1.0] * 5 + [None]
    row = there.row(key(driver_id=1), 3.0, 1)
    await there.store.online_write_batch_async(there.config, view(), [row], None)
    [(_, values)] = await there.store.online_read_async(there.config, view(), [key(driver_id=1)], ["rate"])
    assert values == {"rate": Value(double_val=3.0)}
    there.store.delete_table(there.config, view())
    assert there.rate(view(), key(driver_id=1)) is None
    await there.store.close()
    there.store._client.close()
