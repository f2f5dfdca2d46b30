"""Code version: which commit the running code is of."""

from __future__ import annotations

import subprocess

from feature_repo.settings import ROOT


def commit() -> str:
    """The repository's commit, with `+changes` where tracked files differ from it; `unknown` outside a checkout."""
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    head = git("rev-parse", "--short=12", "HEAD")
    return f"{head}{'+changes' if git('status', '--porcelain', '--', 'training', 'feature_repo') else ''}" or "unknown"
