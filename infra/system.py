"""system: programs for tests that come from the system's packages — a browser, promtool and kcat.

Installed by apt-get when this is Debian and we are root; otherwise it says what the tests will leave out.
Standard library only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

TOOLS = {"chromium": "chromium", "promtool": "prometheus", "kcat": "kcat"}
LEFT_OUT = {
    "chromium": "the browser tests", "promtool": "the proof of the alert rules",
    "kcat": "the topics as kcat reads them",
}


def missing() -> list[str]:
    """Tools that are not on PATH."""
    return [tool for tool in TOOLS if shutil.which(tool) is None]


def main() -> int:
    """Always 0: a missing tool leaves a part of the tests out and is said."""
    wanted = missing()
    if wanted and shutil.which("apt-get") and os.geteuid() == 0:
        packages = [TOOLS[tool] for tool in wanted]
        sys.stderr.write(f"  installing {', '.join(packages)} by apt-get\n")
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
            subprocess.run(["apt-get", "-qq", *words], stdout=subprocess.DEVNULL, env=env, check=False)
    for tool in missing():
        sys.stderr.write(f"  left out: {LEFT_OUT[tool]} ({tool} is not on this machine)\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
