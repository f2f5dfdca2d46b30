"""The doctor's command line, without any package: `python3 -m infra.stack.doctor [--fix] [--json]`."""

from __future__ import annotations

import argparse
import sys

from infra.stack import doctor


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options; a wrong one ends the program with exit code 2."""
    parser = argparse.ArgumentParser("doctor", description="Say what this machine lacks, and how to mend it.")
    parser.add_argument("--fix", action="store_true", help="mend what is safe to mend, and say what was done")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    options = parsed()
    sys.exit(doctor.main(options.json, options.fix))
