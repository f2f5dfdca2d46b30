"""strangers: published clients of the venue in an environment of their own, to prove the local exchange with.

    python -m infra.strangers            # makes .run/strangers from requirements/strangers.lock; quick when it is there

They never share an environment with ours: their pins need not agree with our own. Needs `.venv`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from infra.setup import ROOT, SetupFailed, Stamp, digest, run, say

FOLDER = Path(os.environ.get("CANDLEWICK_RUN_DIR", str(ROOT / ".run"))) / "strangers"
PYTHON = FOLDER / "bin" / "python"
LOCK = ROOT / "requirements" / "strangers.lock"


def install() -> Path:
    """Make the environment unless it is there already; its Python. Raises `SetupFailed`."""
    stamp = Stamp(FOLDER / ".stamp", digest(LOCK, salt=sys.version))
    if not stamp.fresh():
        run("strangers", [sys.executable, "-m", "venv", "--clear", str(FOLDER)])
        run("strangers", [*_installer(), "--require-hashes", "-r", str(LOCK)])
        stamp.write()
    return PYTHON


def _installer() -> list[str]:
    uv = Path(sys.executable).with_name("uv")
    if uv.exists():
        return [str(uv), "pip", "install", "--quiet", "--python", str(PYTHON)]
    return [str(PYTHON), "-m", "pip", "install", "--quiet"]


def main() -> int:
    """Always 0: without them a part of the tests is left out, and that is said."""
    try:
        install()
    except (SetupFailed, OSError, subprocess.SubprocessError) as error:
        say(f"  left out: strangers' clients at the local exchange ({error})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
