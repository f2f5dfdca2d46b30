"""The doctor's comparison of topics, on a real broker."""

from __future__ import annotations

from dataclasses import replace

import pytest

from feature_repo.topics import HOUR_MS, Topic, compare_topics, create_topics

pytestmark = [pytest.mark.integration, pytest.mark.alone, pytest.mark.timeout(300)]  # the broker's start counts too


def test_topics_are_compared_with_what_is_wanted_and_missing_ones_can_be_made(kafka: str) -> None:
    kept, other, absent = Topic("doctor.kept"), Topic("doctor.other"), Topic("doctor.absent")
    create_topics(kafka, (kept, other))
    assert compare_topics(kafka, (kept, other)) == {}
    wanted = (kept, replace(other, partitions=2, retention_ms=HOUR_MS), absent)
    assert compare_topics(kafka, wanted) == {
        "doctor.absent": "missing",
        "doctor.other": "partitions: expected 2, found 1; retention.ms: expected 3600000, found 604800000",
    }
    assert create_topics(kafka, (absent,)) == {"doctor.absent": "created"}
    assert compare_topics(kafka, (kept, absent)) == {}
