from __future__ import annotations

import pytest

from mockllm.engine.length import AnswerLength
from mockllm.model import Request
from mockllm.streams import Streams

STREAMS = Streams(0)
FIXED = AnswerLength(median_tokens=20, sigma=0, max_model_len=100)


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "min_tokens", "ignore_eos", "tokens", "reason"),
    [
        (10, None, 0, False, 20, "stop"),  # ends by itself
        (10, 20, 0, False, 20, "stop"),  # exactly at the limit is not cut
        (10, 19, 0, False, 19, "length"),  # cut by max_tokens
        (85, None, 0, False, 15, "length"),  # cut by the context
        (85, 50, 0, False, 15, "length"),
        (10, 40, 30, False, 30, "stop"),  # min_tokens stretches
        (10, 25, 30, False, 25, "length"),  # but not over the limit
        (10, 33, 0, True, 33, "length"),  # ignore_eos: exactly the limit
        (99, 33, 0, True, 1, "length"),
    ],
)
def test_length_and_reason(
    prompt: int, max_tokens: int | None, min_tokens: int, ignore_eos: bool, tokens: int, reason: str
) -> None:
    request = Request("r", "k", "m", prompt, max_tokens, min_tokens, ignore_eos)
    planned = FIXED.plan(request, STREAMS)
    assert (planned.num_tokens, planned.reason) == (tokens, reason)


def test_drawn_lengths_are_at_least_one_token() -> None:
    tiny = AnswerLength(median_tokens=1, sigma=3, max_model_len=100)
    lengths = [tiny.plan(Request("r", f"k{n}", "m", 1), STREAMS).num_tokens for n in range(500)]
    assert min(lengths) == 1
    assert max(lengths) == 99  # the context's end
