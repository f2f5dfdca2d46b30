"""Probes: ask a program over its own protocol whether it is ready. Each answers within its timeout."""

from __future__ import annotations

import http.client
import json
import socket
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

LOOPBACK = "127.0.0.1"


class Health(StrEnum):
    """What a probe found."""

    READY = "ready"
    ALIVE = "alive"
    """it answers, and says that it is not ready"""
    SILENT = "silent"
    """no answer in time"""


@dataclass(frozen=True)
class Probe:
    """How to ask one program. `path` is used by http only: 200 is ready, any other answer alive."""

    kind: Literal["http", "redis", "kafka", "tcp"]
    port: int
    path: str = "/healthz"
    timeout_s: float = 2.0


def port_is_free(port: int) -> bool:
    """Whether a server could listen on a loopback port now."""
    with socket.socket() as attempt:
        # As servers do: a port whose last connections are still closing is free.
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def examine(probe: Probe) -> tuple[Health, str]:
    """Ask once; the second value says in words what was found when it is not ready."""
    try:
        return _ASK[probe.kind](probe)
    except (OSError, http.client.HTTPException, struct.error) as error:
        return Health.SILENT, f"{LOOPBACK}:{probe.port}: {error or type(error).__name__}"


def _http(probe: Probe) -> tuple[Health, str]:
    connection = http.client.HTTPConnection(LOOPBACK, probe.port, timeout=probe.timeout_s)
    try:
        connection.request("GET", probe.path)
        answer = connection.getresponse()
        body = answer.read(64_000).decode("utf-8", "replace").strip()
    finally:
        connection.close()
    if answer.status == 200:
        return Health.READY, notes(body)
    return Health.ALIVE, f"{probe.path} says {answer.status}: {reasons(body)}"


def reasons(body: str) -> str:
    """Why something is not ready: the `reasons` of a JSON answer, else its beginning.

    >>> reasons('{"ready": false, "reasons": ["no model", "no features"]}'), reasons("busy")
    ('no model; no features', 'busy')
    """
    try:
        told = json.loads(body).get("reasons")
    except (ValueError, AttributeError):
        return body[:120]
    return "; ".join(map(str, told.values() if isinstance(told, dict) else told)) if told else body[:120]


def notes(body: str) -> str:
    """What a ready program tells beside: the `notes` of a JSON answer, those that say the same together.

    >>> notes('{"status": "ok", "notes": {"gold": "off: no market", "vix": "off: no market"}}'), notes("<html>")
    ('gold, vix: off: no market', '')
    """
    try:
        told = json.loads(body).get("notes")
    except (ValueError, AttributeError):
        return ""
    names: dict[str, list[str]] = {}
    for name, note in (told if isinstance(told, dict) else {}).items():
        names.setdefault(str(note), []).append(str(name))
    return "; ".join(f"{', '.join(each)}: {note}" for note, each in names.items())


def _redis(probe: Probe) -> tuple[Health, str]:
    answer = _exchange(probe, b"PING\r\n", 5)
    # It says -LOADING while it reads its file.
    return (Health.READY, "") if answer == b"+PONG" else (Health.ALIVE, f"PING says {answer!r}")


def _kafka(probe: Probe) -> tuple[Health, str]:
    # ApiVersions v0 (key 18), no client id: the one request that every broker answers to anyone.
    body = struct.pack(">hhih", 18, 0, 1, -1)
    answer = _exchange(probe, struct.pack(">i", len(body)) + body, 10)
    _size, correlation, error = struct.unpack(">iih", answer)
    return (Health.READY, "") if (correlation, error) == (1, 0) else (Health.ALIVE, f"ApiVersions says error {error}")


def _tcp(probe: Probe) -> tuple[Health, str]:
    _exchange(probe, b"", 0)
    return Health.READY, ""


def _exchange(probe: Probe, request: bytes, wanted: int) -> bytes:
    with socket.create_connection((LOOPBACK, probe.port), timeout=probe.timeout_s) as connection:
        connection.sendall(request)
        answer = b""
        while len(answer) < wanted and (part := connection.recv(wanted - len(answer))):
            answer += part
    return answer


_ASK = {"http": _http, "redis": _redis, "kafka": _kafka, "tcp": _tcp}
