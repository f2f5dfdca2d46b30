"""Jars: the broker's and Spark's Java libraries, brought by the Ivy inside pyspark and checked by hash.

    >>> sorted(GROUPS)
    ['broker', 'spark']

`ivy-<group>.xml` names what is wanted, `SHA256SUMS` what exactly it must be. The two groups hold different
versions of the same classes, so each has its own folder and its own process. A folder appears only when it
is complete and every hash is right: a second call costs nothing, a broken download leaves nothing behind.

Run `python -m infra.jars.resolve` to fetch both, `--renew` to write new sums after changing a version.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
SUMS = HERE / "SHA256SUMS"
GROUPS = {"broker": HERE / "ivy-kafka.xml", "spark": HERE / "ivy-spark.xml"}
IVY_TIMEOUT_S = 600
Bring = Callable[[str, Path, Path], Path]
"""`retrieve`, or what stands for it in a test."""


class JarsUnavailable(RuntimeError):
    """A jar could not be fetched or is not the one committed."""


def jars(group: str, cache: Path) -> tuple[Path, ...]:
    """The jars of a group ("broker" or "spark") under `cache`, fetched first when missing.

    Raises `JarsUnavailable` when Java, the network or a hash is not as it must be.
    """
    folder = cache / group
    wanted = expected_sums(group)
    if not _complete(folder, wanted):
        with _locked(cache):
            if not _complete(folder, wanted):
                _fetch(group, folder, wanted, retrieve)
    return tuple(sorted(folder.glob("*.jar")))


def refetch(group: str, cache: Path, wanted: Mapping[str, str], bring: Bring | None = None) -> None:
    """Fetch a group anew unless each of its jars has its hash; the old folder goes when the new one is right.

    Raises `JarsUnavailable` as `jars` does.
    """
    folder = cache / group
    with _locked(cache):
        if check(folder, wanted):
            _fetch(group, folder, wanted, bring or retrieve)


def java() -> str:
    """The Java launcher: `JAVA_HOME`'s, else the one on PATH."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    if not found:
        raise JarsUnavailable("expected Java 17 or newer, found no `java`; install one or set JAVA_HOME")
    return found


def expected_sums(group: str, sums: Path = SUMS) -> dict[str, str]:
    """File name → SHA-256 of a group, from the committed list."""
    lines = (line.split() for line in sums.read_text().splitlines() if line.strip())
    return {name.split("/")[1]: digest for digest, name in lines if name.startswith(f"{group}/")}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check(folder: Path, wanted: Mapping[str, str]) -> list[str]:
    """What is wrong with a folder of jars: missing, unexpected or changed files; empty when it is right."""
    found = {path.name: sha256(path) for path in sorted(folder.glob("*.jar"))}
    missing = [f"{name}: missing" for name in sorted(wanted.keys() - found.keys())]
    extra = [f"{name}: not in SHA256SUMS" for name in sorted(found.keys() - wanted.keys())]
    changed = [
        f"{name}: expected {wanted[name][:12]}…, found {found[name][:12]}…"
        for name in sorted(wanted.keys() & found.keys()) if wanted[name] != found[name]
    ]
    return [*missing, *extra, *changed]


def _complete(folder: Path, wanted: Mapping[str, str]) -> bool:
    # The folder was hashed before it was renamed into place; names tell whether it is of this list of versions.
    return {path.name for path in folder.glob("*.jar")} == set(wanted)


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(group: str, folder: Path, wanted: Mapping[str, str], bring: Bring) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{group}-") as scratch:
        retrieved = bring(group, Path(scratch), folder.parent / "ivy")
        if wrong := check(retrieved, wanted):
            raise JarsUnavailable(f"{group} jars are not the ones in {SUMS.name}: {'; '.join(wrong)}")
        shutil.rmtree(folder, ignore_errors=True)
        retrieved.rename(folder)


def retrieve(group: str, into: Path, ivy_cache: Path) -> Path:
    """Let Ivy bring a group's jars into `into/jars` and return that folder. Raises `JarsUnavailable`."""
    jars_folder = into / "jars"
    command = [
        java(), "-jar", str(_ivy_jar()), "-ivy", str(GROUPS[group]), "-cache", str(ivy_cache),
        "-types", "jar", "bundle", "-retrieve", f"{jars_folder}/[artifact]-[revision].[ext]",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=IVY_TIMEOUT_S, check=False)
    if done.returncode != 0 or not jars_folder.exists():
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise JarsUnavailable(f"Ivy could not bring the {group} jars (exit {done.returncode}); its last words:\n{tail}")
    return jars_folder


def _ivy_jar() -> Path:
    import pyspark

    found = sorted((Path(pyspark.__file__).parent / "jars").glob("ivy-*.jar"))
    if not found:
        raise JarsUnavailable("expected pyspark's wheel to ship ivy-*.jar, found none; reinstall pyspark")
    return found[-1]


def renew(cache: Path) -> str:
    """The text of `SHA256SUMS` for what the Ivy files name now."""
    lines: list[str] = []
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        for group in sorted(GROUPS):
            folder = retrieve(group, Path(scratch) / group, cache / "ivy")
            lines += [f"{sha256(path)}  {group}/{path.name}" for path in sorted(folder.glob("*.jar"))]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    from feature_repo.settings import load_settings

    cache = load_settings().jars_dir
    cache.mkdir(parents=True, exist_ok=True)
    try:
        if arguments == ["--renew"]:
            SUMS.write_text(renew(cache))
        for group in sorted(GROUPS):
            print(f"{group}: {len(jars(group, cache))} jars in {cache / group}")
    except JarsUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
