"""OpenAPI: the description of the service's routes; every type in it comes from the contracts.

    document = openapi_document()      # served at /openapi.json
"""

from __future__ import annotations

from typing import Any

from feature_repo import derive


def openapi_document() -> dict[str, Any]:
    """OpenAPI 3.1 of the HTTP routes. `/live` is described by `LiveSnapshot` and `LiveUpdate` among the schemas."""
    document = derive.openapi()
    document["info"] = {"title": "Candlewick serving", "version": "1"}
    document["components"]["schemas"] |= {"Error": _ERROR, "Readiness": _READINESS}
    document["paths"] = {
        "/predict": {"post": _operation(
            "Forecast for a symbol; explicit fields override the newest row", "Prediction",
            {"400": "Error", "404": "Error", "413": "Error"}, body="PredictRequest",
        )},
        "/latest": {"get": _operation(
            "The newest forecast of a symbol", "Prediction", {"404": "Error"}, query="symbol",
        )},
        "/market": {"get": _operation("Every followed symbol now, and the top movers", "Market", {})},
        "/symbols": {"get": _operation("The followed instruments and their state", "SymbolList", {})},
        "/readyz": {"get": _operation("Whether a forecast can be given now", "Readiness", {"503": "Readiness"})},
        "/healthz": {"get": _operation("As /readyz", "Readiness", {"503": "Readiness"})},
        "/livez": {"get": {"summary": "The process runs", "responses": {"200": {"description": "alive"}}}},
        "/metrics": {"get": {"summary": "Prometheus metrics", "responses": {"200": {"description": "text"}}}},
    }
    return document


def _operation(
    summary: str, answer: str, errors: dict[str, str], body: str | None = None, query: str | None = None,
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {"200": _response(answer), **{status: _response(name) for status, name in errors.items()}},
    }
    if body:
        operation["requestBody"] = {"required": True, "content": _json(body)}
    if query:
        operation["parameters"] = [{"name": query, "in": "query", "required": False, "schema": {"type": "string"}}]
    return operation


def _response(name: str) -> dict[str, Any]:
    return {"description": name, "content": _json(name)}


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


_ERROR = {
    "type": "object", "required": ["error"], "additionalProperties": False,
    "properties": {
        "error": {"type": "string"},
        "detail": {"type": "array", "items": {"type": "object"}},
    },
}
_READINESS = {
    "type": "object", "required": ["ready", "reasons"],
    "properties": {
        "ready": {"type": "boolean"},
        "reasons": {"type": "array", "items": {"type": "string"}},
        "model": {"type": ["string", "null"]},
        "model_version": {"type": ["string", "null"]},
        "slot": {"type": "string"},
        "feature_age_s": {"type": "object", "additionalProperties": {"type": ["number", "null"]}},
        "live_feed": {"type": "boolean"},
    },
}
