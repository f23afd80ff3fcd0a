"""Ends of answers and their labels in virtual time: those that a client reads off the wire for the same ends (the wire's own
tests are in tests/faults; tests/accuracy/test_two_clocks.py compares the two)."""

from __future__ import annotations

from typing import Any

import pytest

from harness.virtual.endings import verdict_of
from mockllm import Cut, Damage, Finished, Refused

_OK = Finished("r", 1.0, "stop", 10)
_CUT = Cut("r", 1.0, 10)


def _refused(status: int, retry_after_s: float | None = None) -> Refused:
    return Refused("r", 1.0, status, "kind", "words", retry_after_s)


@pytest.mark.parametrize(
    ("end", "stream", "num_tokens", "damage", "status", "outcome", "kind"),
    [
        (_OK, True, 10, (), 200, "ok", None),
        (_OK, False, 10, (), 200, "ok", None),
        (_OK, True, 10, (Damage("slow_headers", 0, 2.0),), 200, "ok", None),
        (_OK, True, 10, (Damage("garbled", 9),), 200, "failed", "bad_json"),
        (_OK, True, 10, (Damage("garbled", 10),), 200, "ok", None),  # the answer was shorter
        (_OK, False, 10, (Damage("garbled", 10),), 200, "failed", "bad_json"),  # one body, all of it
        (_OK, True, 10, (Damage("duplicate_finish"),), 200, "failed", "two_finishes"),
        (_OK, False, 10, (Damage("duplicate_finish"),), 200, "ok", None),  # only streams have such an event
        (_OK, True, 10, (Damage("duplicate_finish"), Damage("garbled", 3)), 200, "failed", "bad_json"),
        (_CUT, True, 10, (), 200, "cut", "closed_mid_answer"),
        (_CUT, False, 10, (), 200, "cut", "closed_mid_answer"),
        (_CUT, True, 0, (), None, "failed", "reset_before_headers"),
        (_CUT._replace(in_band=True), True, 10, (), 200, "failed", "in_band_error"),
        (_CUT._replace(in_band=True), False, 10, (), 500, "failed", "http_500"),
        (_CUT._replace(in_band=True), True, 0, (), 500, "failed", "http_500"),
        (_CUT._replace(silent=True), True, 10, (), 200, "cut", "no_end"),
        (_CUT._replace(silent=True), False, 10, (), 200, "failed", "bad_json"),
        (_refused(429, 3.0), True, 0, (), 429, "throttled", "http_429"),
        (_refused(529), False, 0, (), 529, "throttled", "http_529"),
        (_refused(503, 3.0), True, 0, (), 503, "throttled", "http_503"),
        (_refused(503), True, 0, (), 503, "failed", "http_503"),
        (_refused(400), True, 0, (), 400, "failed", "http_400"),
        (_refused(0), True, 0, (), None, "failed", "reset_before_headers"),
        (_refused(500), True, 4, (), 200, "failed", "in_band_error"),  # it had begun
    ],
)
def test_an_end_has_the_label_that_it_has_over_http(
    end: Any, stream: bool, num_tokens: int, damage: Any, status: int | None, outcome: str, kind: str | None
) -> None:
    found, verdict = verdict_of(end, stream=stream, num_tokens=num_tokens, damage=damage)
    assert (found, verdict.outcome, verdict.error_kind) == (status, outcome, kind)
    assert (verdict.error_text == "words") == (isinstance(end, Refused) and found not in (None, 200))
