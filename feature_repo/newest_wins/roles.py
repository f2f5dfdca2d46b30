"""Roles: Redis users of an online store, as lines of its ACL file: those who read, and the one who writes.

    WRITER_PASSWORD=… READER_PASSWORD=… python -m newest_wins.roles > users.acl     # redis-server --aclfile users.acl

A reader may ask and nothing else: no write, no script, no administration. A writer may also run the newest-wins script
and delete; Redis lets a script do what its caller may do, so the writer's connection belongs to the few processes that
materialise, push or serve the feature server. Passwords are in the file as hashes.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable

READ = (
    "+@read", "+@connection", "-@dangerous", "-@admin", "-@blocking", "+info", "+command", "+readonly",
    # Redis 6 takes all of CLIENT for administration, and knows roles for subcommands only where they are named.
    "+client|id", "+client|setname", "+client|setinfo", "+client|tracking",
    "+cluster|slots", "+cluster|shards", "+cluster|nodes",
)
WRITE = ("+hset", "+hdel", "+del", "+unlink", "+set", "+expire", "+eval", "+evalsha", "+script|load", "+script|exists")
"""What the script does, what deletes views, and what runs scripts."""


def reader(name: str, password: str | None) -> str:
    """A user who reads; without a password anyone is.

    >>> reader("default", None)[:38]
    'user default on nopass ~* -@all +@read'
    """
    return _user(name, password, READ)


def writer(name: str, password: str, more: Iterable[str] = ()) -> str:
    """A user who reads and writes; `more` is what else it may do. Raises `ValueError` without a password."""
    if not password:
        raise ValueError(f"expected a password for {name}, found none; a writer is never anyone")
    return _user(name, password, (*READ, *WRITE, *more))


def _user(name: str, password: str | None, may: Iterable[str]) -> str:
    secret = "nopass" if password is None else f"#{hashlib.sha256(password.encode()).hexdigest()}"
    return " ".join(("user", name, "on", secret, "~*", "-@all", *may))


def main() -> None:
    """Print an ACL file: `default` off, `reader` and `writer` with the passwords of the environment."""
    named = {name: os.environ.get(f"{name.upper()}_PASSWORD", "") for name in ("reader", "writer")}
    if missing := [f"{name.upper()}_PASSWORD" for name, password in named.items() if not password]:
        sys.exit(f"expected {' and '.join(missing)} in the environment, found none")
    lines = ("user default off", reader("reader", named["reader"]), writer("writer", named["writer"]))
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
