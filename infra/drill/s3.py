"""S3: a server of the protocol on loopback, in a process of its own, with an empty bucket for a lake.

    with s3_server() as port:
        settings = replace(settings, lake_url=LAKE_URL, s3_endpoint=f"http://127.0.0.1:{port}")

The server is moto's, which only the packages for tests bring: `candlewick chaos sink --sink s3` needs `make setup-all`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from feature_repo.settings import LOOPBACK
from infra.drill.stack import free_ports, until

BUCKET = "drill"
LAKE_URL = f"s3://{BUCKET}/lake"
START_S = 60.0
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "drill", "AWS_SECRET_ACCESS_KEY": "drill", "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def s3_server() -> Iterator[int]:
    """Its port; until the block ends the environment, and so every child's, holds its credentials."""
    port, before = free_ports().redis, dict(os.environ)
    command = [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(port)]
    os.environ.update(CREDENTIALS)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            until(lambda: server.poll() is not None or _has_bucket(port), START_S, "an S3 server")
            if server.poll() is not None:
                raise ValueError("expected moto's S3 server to start, found it ended; run `make setup-all`")
            yield port
        finally:
            server.terminate()
            for name in CREDENTIALS:
                os.environ.pop(name)
            os.environ.update({name: before[name] for name in CREDENTIALS if name in before})


def _has_bucket(port: int) -> bool:
    try:
        return httpx.put(f"http://{LOOPBACK}:{port}/{BUCKET}", timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False
