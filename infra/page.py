"""page: install the frontend's packages and make its production build, each only when its inputs changed.

    python3 infra/page.py             # `npm ci` when package-lock.json changed, `next build` when a source did
    python3 infra/page.py --packages  # only the packages

Uses the standard library only.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FRONTEND = ROOT / "frontend"
# Made by the tools, or not part of the build.
IGNORED = frozenset(
    {"node_modules", ".next", "test-results", "playwright-report", "e2e", "dev", "tests", "next-env.d.ts"}
)
PACKAGES_STAMP = FRONTEND / "node_modules" / ".candlewick-stamp"
BUILD_STAMP = FRONTEND / ".next" / ".candlewick-stamp"
QUIET = {"NEXT_TELEMETRY_DISABLED": "1", "DO_NOT_TRACK": "1", "CI": "1"}


def sources(folder: Path = FRONTEND) -> Iterator[Path]:
    """Every file that the build is made from, in a fixed order."""
    for path in sorted(folder.iterdir()):
        if path.name in IGNORED or path.name.endswith(".tsbuildinfo"):
            continue
        if path.is_dir():
            yield from sources(path)
        else:
            yield path


def digest(paths: Iterator[Path]) -> str:
    """One hash of the files' places and contents."""
    total = hashlib.sha256()
    for path in paths:
        total.update(str(path.relative_to(FRONTEND)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def step(stamp: Path, content: str, command: list[str]) -> None:
    """Run a command unless its stamp says that it was run on the same inputs. Exits with its code when it fails."""
    if stamp.exists() and stamp.read_text() == content:
        return
    stamp.unlink(missing_ok=True)
    done = subprocess.run(command, cwd=FRONTEND, env={**os.environ, **QUIET}, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)
    stamp.write_text(content)


def locked() -> str:
    """What the page's packages are made from."""
    return digest(iter([FRONTEND / "package-lock.json", FRONTEND / "package.json"]))


def main(arguments: list[str]) -> None:
    """Packages, then the build."""
    step(PACKAGES_STAMP, locked(), ["npm", "ci", "--no-audit", "--no-fund"])
    if "--packages" not in arguments:
        step(BUILD_STAMP, digest(sources()), ["npm", "run", "build"])


if __name__ == "__main__":
    main(sys.argv[1:])
