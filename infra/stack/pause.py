"""Pause: freeze one running service, or let it go on, as a hung program or a dead network would.

    python -m infra.stack.pause exchange
    python -m infra.stack.pause exchange --resume

For tests and drills. The supervisor starts a service again when it has been silent for a minute.
"""

from __future__ import annotations

import signal
import sys

from feature_repo.settings import load_settings
from infra.stack import control, processes


def main(arguments: list[str]) -> None:
    """Raises `ValueError` when the stack or the service does not run."""
    settings = load_settings()
    found = control.current(settings)
    if not arguments or found is None:
        raise ValueError("pause: expected the name of a service of a running stack, found none")
    leaders = {service["name"]: service["pid"] for service in found["services"] if service["pid"]}
    if arguments[0] not in leaders:
        raise ValueError(f"pause: expected one of {', '.join(leaders)}; found {arguments[0]!r}")
    number = signal.SIGCONT if "--resume" in arguments else signal.SIGSTOP
    for process in processes.members(settings.run_dir, leaders)[arguments[0]]:
        process.send_signal(number)


if __name__ == "__main__":
    main(sys.argv[1:])
