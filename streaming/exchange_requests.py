"""Requests on the exchange's WebSocket: SUBSCRIBE and its kin, answered in the venue's words.

    >>> wanted = Subscriptions(combined=False)
    >>> wanted.answer('{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}')
    {'result': None, 'id': 1}
    >>> wanted.answer('{"method":"LIST_SUBSCRIPTIONS","id":2}')
    {'result': ['btcusdt@trade'], 'id': 2}

Source of the rules: Binance spot WebSocket streams documentation (live subscribing, properties, error messages).
"""

from __future__ import annotations

import json
import re
from typing import Any

STREAM_PATTERN = re.compile(r"[!a-z0-9_.-]+@[A-Za-z0-9_@+:-]+|![a-zA-Z0-9_@-]+")
EVERY_CHANGE, SLOWER = "@depth@0ms", ("@depth@100ms", "@depth", "@depth@500ms")
METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")


class BadRequest(Exception):
    """A request the venue answers with an error code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.error = {"code": code, "msg": message}


class Subscriptions:
    """What one connection wants: stream names in the order asked for, and whether payloads come in an envelope."""

    def __init__(self, combined: bool) -> None:
        self.combined = combined
        self.streams: dict[str, None] = {}
        self.asked: list[str] = []
        """What was asked for last."""

    def add(self, names: list[str]) -> None:
        """An unknown symbol or stream is accepted and silent, as at the venue."""
        self.streams |= dict.fromkeys(names)
        self.asked = names

    def asked_as(self, name: str) -> str | None:
        """The name under which a played stream is wanted; None when it is not.

        A recording of every change (`depth@0ms`) serves those who ask for one of the slower speeds too.

        >>> wanted = Subscriptions(combined=True)
        >>> wanted.add(["btcusdt@depth@100ms"])
        >>> wanted.asked_as("btcusdt@depth@0ms"), wanted.asked_as("ethusdt@depth@0ms")
        ('btcusdt@depth@100ms', None)
        """
        if name in self.streams or not name.endswith(EVERY_CHANGE):
            return name if name in self.streams else None
        slower = (name.removesuffix(EVERY_CHANGE) + speed for speed in SLOWER)
        return next((asked for asked in slower if asked in self.streams), None)

    def answer(self, text: str) -> dict[str, Any]:
        """Obey a request; the reply to send."""
        request: dict[str, Any] = {}
        try:
            request = _parse(text)
            _check(request, text)
            return {"result": self._obey(request["method"], request.get("params", [])), "id": request["id"]}
        except BadRequest as bad:
            return {"error": bad.error} | ({"id": request["id"]} if "id" in request else {})

    def _obey(self, method: str, params: Any) -> Any:
        if method == "LIST_SUBSCRIPTIONS":
            return list(self.streams)
        if method == "SUBSCRIBE":
            return self.add(_stream_names(params))
        if method == "UNSUBSCRIBE":
            for name in _stream_names(params):
                self.streams.pop(name, None)
            return None
        return self._property(method, params)

    def _property(self, method: str, params: Any) -> bool | None:
        if not isinstance(params, list) or not params or not isinstance(params[0], str):
            raise BadRequest(2, "Invalid request: property name must be a string")
        if params[0] != "combined":
            raise BadRequest(0, "Unknown property")
        if method == "GET_PROPERTY":
            return self.combined
        if len(params) > 2:
            raise BadRequest(2, "Invalid request: too many parameters")
        if len(params) != 2 or not isinstance(params[1], bool):
            raise BadRequest(1, "Invalid value type: expected Boolean")
        self.combined = params[1]
        return None


def _parse(text: str) -> dict[str, Any]:
    try:
        request = json.loads(text)
    except json.JSONDecodeError as error:
        at = f"line {error.lineno} column {error.colno}"
        raise BadRequest(3, f"Invalid JSON: expected value at {at}") from error
    return request if isinstance(request, dict) else {}


def _check(request: dict[str, Any], text: str) -> None:
    if "method" not in request:
        raise BadRequest(2, f"Invalid request: missing field `method` at line 1 column {len(text)}")
    if not _fits(request.setdefault("id", None)):
        del request["id"]
        raise BadRequest(2, "Invalid request: request ID must be an unsigned integer")
    method = str(request["method"])
    if method not in METHODS:
        known, column = ", ".join(f"`{name}`" for name in METHODS), text.find(method) + len(method) + 1
        raise BadRequest(
            2, f"Invalid request: unknown variant `{method}`, expected one of {known} at line 1 column {column}")


def _fits(identity: Any) -> bool:
    if isinstance(identity, str):
        return identity.isalnum() and len(identity) <= 36
    return identity is None or (isinstance(identity, int) and not isinstance(identity, bool))


def _stream_names(params: Any) -> list[str]:
    if not isinstance(params, list) or not all(isinstance(name, str) for name in params):
        raise BadRequest(2, "Invalid request: invalid type, expected a sequence of strings")
    for name in params:
        if not STREAM_PATTERN.fullmatch(name):
            raise BadRequest(2, f"Invalid request: invalid stream `{name}`")
    return params
