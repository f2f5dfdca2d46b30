"""The verbs of the command line, a module for each group of them; `candlewick.py` puts them together.

Rules for a verb: a few lines that import one module inside the function (so `--help` stays quick) and call it; take
`--json`, hand the work to the module, print through `show`. Exit codes: 0 ok, 1 a check failed (`raise
typer.Exit(1)`), 2 bad usage or input (raise `ValueError("expected …, found …; do …")` anywhere below and it is
printed without a traceback).

What a module offers: `app`, verbs of the command line itself; `group`, verbs below a word of their own
(`candlewick lake status`).
"""
