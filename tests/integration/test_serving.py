"""A real service on a real Redis: every route, its errors, its readiness, and which model it trusts."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from feature_repo.contracts import SECOND_NS, Prediction
from tests.bentos.made import made_artefact, made_row
from tests.integration.conftest import free_port
from tests.integration.serving_stack import ServingStack, now_second, until

pytestmark = [pytest.mark.integration, pytest.mark.alone]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingStack]:
    made = ServingStack.make(tmp_path_factory.mktemp("serving"), free_port)
    try:
        made.start_redis()
        made.start_service()
        yield made
    finally:
        made.close()


def test_a_fresh_row_is_answered_at_tier_one_and_equals_its_contract(stack: ServingStack) -> None:
    row = stack.write_row()
    answer = stack.post(symbol="BTCUSDT")
    made = Prediction.model_validate_json(answer.text)
    assert (made.tier, made.ts_event, made.created, made.model_version) == (1, row.ts_event, row.created, "1")
    assert made.signal is not None
    assert made.risk_score is not None
    assert answer.headers["content-type"] == "application/json"


def test_the_next_row_is_served_by_the_next_request(stack: ServingStack) -> None:
    for return_1m in (0.003, -0.003):
        stack.write_row(made_row(now_second(), return_1m=return_1m))
        signal_ = stack.predicted()["signal"]
        assert (signal_ > 0) is (return_1m > 0)
        time.sleep(1.0)


def test_an_old_row_is_safe_mode_and_says_its_age(stack: ServingStack) -> None:
    stack.empty_store()
    stack.write_row(made_row(now_second() - 10 * SECOND_NS))
    made = stack.predicted()
    assert (made["tier"], made["signal"], made["should_trade"]) == (5, None, False)
    assert "s old; tier 1 allows 3 s" in made["reasons"][0]


def test_explicit_fields_change_the_answer(stack: ServingStack) -> None:
    stack.write_row()
    plain, asked = stack.predicted(), stack.predicted(momentum={"1m": -0.004}, volatility=0.002)
    assert asked["p_up"] < 0.5 < plain["p_up"]
    assert any("explicit input set" in reason for reason in asked["reasons"])


def test_latest_is_computed_when_nothing_was_published(stack: ServingStack) -> None:
    row = stack.write_row()
    made = httpx.get(f"{stack.url}/latest", params={"symbol": "BTCUSDT"}).json()
    assert made["ts_event"] == row.ts_event
    assert made["tier"] == 1


@pytest.mark.parametrize(("body", "status", "words"), [
    (b"{", 400, "expected a PredictRequest"),
    (b"{}", 400, "expected a PredictRequest"),
    (b'{"symbol": "BTCUSDT", "colour": 1}', 400, "expected a PredictRequest"),
    (b'{"symbol": "BTCUSDT", "imbalance": 2}', 400, "expected a PredictRequest"),
    (b'{"symbol": "BTCUSDT", "price": "NaN"}', 400, "expected a PredictRequest"),
    (b'{"symbol": "BTCUSDT", "momentum": {"3m": 0.1}}', 400, "momentum: expected windows among 1m"),
    (b'{"symbol": "BTCUSDT", "timestamp": 9000000000000000000}', 400, "timestamp: expected at most now"),
    (b'{"symbol": "DOGEUSDT"}', 404, "symbol: expected one of BTCUSDT; found 'DOGEUSDT'"),
    (b'{"symbol": "BTCUSDT", "momentum": {"1m": ' + b"0" * 17_000 + b"}}", 413, "body: expected at most 16384 bytes"),
])
def test_a_request_that_cannot_be_answered_says_what_is_expected(
    stack: ServingStack, body: bytes, status: int, words: str,
) -> None:
    stack.write_row()
    answer = httpx.post(f"{stack.url}/predict", content=body)
    assert answer.status_code == status
    assert words in answer.json()["error"]


def test_only_known_paths_become_labels(stack: ServingStack) -> None:
    for i in range(5):
        assert httpx.get(f"{stack.url}/scan/{i}").status_code == 404
    stack.predicted()
    text = httpx.get(f"{stack.url}/metrics").text
    assert "/scan" not in text
    assert 'candlewick_http_requests_total{route="/predict",status="200"}' in text
    assert "candlewick_inference_seconds_bucket" in text
    assert 'candlewick_predictions_total{tier="1"}' in text


def test_the_description_names_every_answer_of_the_contracts(stack: ServingStack) -> None:
    document = httpx.get(f"{stack.url}/openapi.json").json()
    answer = document["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"$ref": "#/components/schemas/Prediction"}
    fields = document["components"]["schemas"]["Prediction"]["properties"]
    stack.write_row()
    assert set(stack.predicted()) == set(fields)


def ready(stack: ServingStack) -> tuple[int, list[str]]:
    answer = httpx.get(f"{stack.url}/readyz", timeout=10)
    assert httpx.get(f"{stack.url}/healthz", timeout=10).status_code == answer.status_code
    return answer.status_code, answer.json()["reasons"]


def test_readiness_follows_the_features_and_redis_down_and_up_again(stack: ServingStack) -> None:
    stack.empty_store()
    assert ready(stack) == (503, ["no features of BTCUSDT in the online store"])
    stack.write_row(made_row(now_second() - 90 * SECOND_NS))
    status, [reason] = ready(stack)
    assert status == 503
    assert reason.startswith("features of BTCUSDT are 9")
    stack.write_row()
    assert ready(stack) == (200, [])

    stack.stop("redis", signal.SIGKILL)
    status, [reason] = ready(stack)
    assert status == 503
    assert reason.startswith("Redis expected at")
    made = stack.predicted()
    assert (made["tier"], made["signal"]) == (5, None)
    assert made["reasons"][0].startswith("Redis expected at")
    assert httpx.get(f"{stack.url}/livez").status_code == 200

    stack.start_redis()
    stack.write_row()
    assert ready(stack) == (200, [])
    assert stack.predicted()["tier"] == 1


def test_a_champion_is_preferred_and_a_tampered_one_is_refused_for_the_bootstrap(stack: ServingStack) -> None:
    champion = made_artefact(stack.settings.run_dir / "models" / "champion", version="2")
    ports = replace(stack.settings.ports, service=free_port())
    other = ServingStack(replace(stack.settings, ports=ports))
    try:
        other.start_service()
        stack.write_row()
        assert other.predicted()["model_version"] == "2"
        other.stop("service")
        meta = json.loads((champion / "meta.json").read_text())
        (champion / "meta.json").write_text(json.dumps(meta | {"version": "3"}))
        other.start_service()
        stack.write_row()
        assert other.predicted()["model_version"] == "1"
        assert 'candlewick_model_refused_total{slot="champion"} 1.0' in httpx.get(f"{other.url}/metrics").text
        assert '"event": "model refused"' in other.log("service")
    finally:
        other.close()


def test_sigterm_ends_the_service_within_ten_seconds(stack: ServingStack) -> None:
    started = time.monotonic()
    assert stack.stop("service") == 0
    assert time.monotonic() - started < 10
    stack.start_service()
    assert until(lambda: httpx.get(f"{stack.url}/livez").status_code == 200)
