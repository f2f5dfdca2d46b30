"""topics, tail: what Kafka holds."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cli.options import Json
from cli.show import show

app = typer.Typer()


@app.command()
def topics(as_json: Json = False) -> None:
    """Create the Kafka topics that are missing, with their settings."""
    from feature_repo.settings import load_settings
    from feature_repo.topics import create_topics
    from feature_repo.topics import topics as wanted

    settings = load_settings()
    show(create_topics(settings.kafka, wanted(settings.symbols)), as_json)


@app.command()
def tail(
    topic: Annotated[str, typer.Argument(help="For instance crypto.btc.trades.")],
    count: Annotated[int, typer.Option("-n", "--lines", min=1, help="How many of the newest records.")] = 10,
    as_json: Json = False,
) -> None:
    """Print the newest records of a topic, decoded."""
    import dataclasses

    from feature_repo.settings import load_settings
    from feature_repo.topic_reader import newest

    records = [dataclasses.asdict(record) for record in newest(load_settings().kafka, topic, count)]
    lines = [f"{r['partition']}/{r['offset']} {r['key']} {r['schema']} {json.dumps(r['body'])}" for r in records]
    show({"topic": topic, "records": records}, as_json, "\n".join(lines))
