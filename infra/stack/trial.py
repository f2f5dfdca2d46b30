"""Trial: run one command against a whole stack of its own, and leave nothing of it.

    python -m infra.stack.trial [--source recording] -- npm --prefix frontend run e2e

The stack has its own run folder and ports, so it disturbs no other. The command finds the addresses in
CANDLEWICK_PAGE_URL, CANDLEWICK_SERVICE_URL and CANDLEWICK_EXCHANGE_URL, and what freezes and frees its market in
CANDLEWICK_EXCHANGE_STOP_CMD and _START_CMD. Exit code: the command's, or 1 when the stack did not come up (its logs
stay in the run folder).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from feature_repo.settings import LOOPBACK, ROOT, Ports, Settings, load_settings
from infra.stack import logfiles, services, venue

PORT_SHIFT = 5000
CANDLEWICK = (sys.executable, "candlewick.py")


def environment(run_dir: Path, ports: Ports) -> dict[str, str]:
    """What makes a stack another one: its run folder, its ports, and where its pages are."""
    pause = f"cd '{ROOT}' && '{sys.executable}' -m infra.stack.pause"
    shifted = {name: port + PORT_SHIFT for name, port in asdict(ports).items()}
    return {
        "CANDLEWICK_RUN_DIR": str(run_dir),
        **{f"CANDLEWICK_PORTS_{name.upper()}": str(port) for name, port in shifted.items()},
        "CANDLEWICK_PAGE_URL": f"http://{LOOPBACK}:{shifted['frontend']}",
        "CANDLEWICK_SERVICE_URL": f"http://{LOOPBACK}:{shifted['service']}",
        "CANDLEWICK_EXCHANGE_URL": f"http://{LOOPBACK}:{shifted['exchange']}",
        "CANDLEWICK_EXCHANGE_STOP_CMD": f"{pause} exchange",
        "CANDLEWICK_EXCHANGE_START_CMD": f"{pause} exchange --resume",
    }


def offline_source(settings: Settings) -> venue.Source:
    """A recording when there is one, else the simulator: a trial never depends on the network."""
    return venue.choose(settings, "auto", reach=lambda _hosts: None)


def trial(command: Sequence[str], source: str, environ: Mapping[str, str], run_dir: Path) -> int:
    """Up, the command, down. Returns the command's exit code, 1 when the stack did not come up."""
    shutil.rmtree(run_dir, ignore_errors=True)
    try:
        if _run([*CANDLEWICK, "up", "--source", source], environ) != 0:
            _show_logs(run_dir, environ)
            return 1
        return _run(command, environ)
    finally:
        _run([*CANDLEWICK, "down"], environ)


def _run(command: Sequence[str], environ: Mapping[str, str]) -> int:
    return subprocess.run(command, cwd=ROOT, env=dict(environ), check=False).returncode


def _show_logs(run_dir: Path, environ: Mapping[str, str]) -> None:
    names = [service.name for service in services.table(load_settings(environ), "recording")]
    for name in names:
        for line in logfiles.tail(logfiles.path(run_dir, name), 15):
            sys.stderr.write(f"{name:<12} {line}\n")


def main(arguments: list[str]) -> int:
    """Split our options from the command. Raises `ValueError` when there is none."""
    if "--" not in arguments or not (command := arguments[arguments.index("--") + 1 :]):
        raise ValueError("trial: expected `[--source WORD] -- COMMAND…`, found no command")
    ours = arguments[: arguments.index("--")]
    settings = load_settings()
    source = venue.wanted(ours[1]) if ours[:1] == ["--source"] else offline_source(settings)
    run_dir = settings.run_dir / "trial"
    return trial(command, source, {**os.environ, **environment(run_dir, settings.ports)}, run_dir)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
