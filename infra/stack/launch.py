"""Launch: make a foreign server ready to run, then become it, so that its process id is the service's own.

    python -m infra.stack.launch kafka|redis|prometheus
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from feature_repo.settings import Settings, load_settings
from infra.stack import kafka, prometheus, redis


def _kafka(settings: Settings) -> list[str]:
    kafka.prepare(settings)
    return kafka.command(settings)


COMMANDS: dict[str, Callable[[Settings], list[str]]] = {
    "kafka": _kafka, "redis": redis.command, "prometheus": prometheus.command,
}


def main(name: str) -> None:
    """Prepare and replace this process. Raises `ValueError` for an unknown name."""
    if name not in COMMANDS:
        raise ValueError(f"launch: expected one of {', '.join(COMMANDS)}; found {name!r}")
    try:
        command = COMMANDS[name](load_settings())
    except ValueError as error:
        sys.exit(str(error))  # its log, and through it `status`, has the one line that says what to do
    os.execvp(command[0], command)  # noqa: S606 a list of words from our own table


if __name__ == "__main__":
    main(sys.argv[1])
