"""candlewick: the command line, put together from the verbs of `cli/`.

    candlewick up            start the whole stack on this machine
    candlewick status --json what runs, where, and how much memory it takes
"""

from __future__ import annotations

import os
import sys

import typer

from cli import bench, chaos, checks, console, features, lake, market, models, stack, symbols, topics, training

app = typer.Typer(
    name="candlewick", no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False,
    help="Features you can prove, forecasts you can trust, alerts you can explain.",
)
# In the order of `--help`: verbs that stand for themselves, then those below a word.
for verbs in (stack.app, topics.app, market.app, lake.app, console.app, checks.app, training.app, models.app):
    app.add_typer(verbs)
for word, group in {
    "bench": bench.group, "chaos": chaos.group, "symbols": symbols.group, "lake": lake.group,
    "features": features.group, "model": models.artefacts, "dataset": models.datasets,
}.items():
    app.add_typer(group, name=word)


def spread(arguments: list[str], name: str = "--frames") -> list[str]:
    """Repeat an option before each of its values: shells expand `--frames *.gz` to one option and many files.

    >>> spread(["bars", "--frames", "a.gz", "b.gz", "--interval", "1m"])
    ['bars', '--frames', 'a.gz', '--frames', 'b.gz', '--interval', '1m']
    """
    spread_out: list[str] = []
    inside = False
    for argument in arguments:
        inside = argument == name or (inside and not argument.startswith("-"))
        spread_out += [name, argument] if inside and argument != name else [] if inside else [argument]
    return spread_out


def main() -> None:
    """Run the command line; what we raise on purpose, and what the system refuses, is one line: exit 2 for bad input, 1
    for what failed."""
    from feature_repo.contracts import CandlewickError

    os.environ.setdefault("DO_NOT_TRACK", "1")
    try:
        app(spread(spread(spread(sys.argv[1:]), "--bars"), "--train-bars"))
    except (ValueError, CandlewickError, OSError) as error:
        if os.environ.get("CANDLEWICK_LOG_LEVEL") == "debug":
            raise
        typer.echo(f"candlewick: {error}", err=True)
        sys.exit(2 if isinstance(error, ValueError) else 1)


if __name__ == "__main__":
    main()
