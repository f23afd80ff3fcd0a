"""What makes a sample doubtful, and what does not."""

from __future__ import annotations

import pytest

from harness.dialects.openai_chat import OPENAI_CHAT
from harness.doubt import doubts_of
from harness.exchange import Exchange, Vague
from harness.reading import read_stream
from tests.harness.builders import bare_record

_ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n'
_WORD = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
_END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def _doubts(reads: list[tuple[float, bytes]], vague: dict[float, Vague], sent_at: float = 0.0) -> list[str]:
    exchange = Exchange(sent_at=sent_at, reads=reads, vague=vague)
    return list(doubts_of(bare_record(), exchange, read_stream(reads, OPENAI_CHAT), OPENAI_CHAT))


_WIDE = Vague(0.05, stamped=True)
_UNSTAMPED = Vague(0.05, stamped=False)


@pytest.mark.parametrize(
    ("reads", "vague", "expected"),
    [
        ([(1.0, _WORD), (2.0, _WORD), (3.0, _END)], {}, []),
        ([(1.0, _WORD + _WORD), (3.0, _END)], {}, []),  # in one read, but one that was made at once
        ([(1.0, _WORD + _WORD), (3.0, _END)], {1.0: _WIDE}, ["merged_first_token"]),
        ([(1.0, _WORD + _END)], {1.0: _WIDE}, ["merged_first_token"]),  # the end may have come long after the word
        ([(1.0, _ROLE + _WORD), (3.0, _END)], {1.0: _WIDE}, []),  # last in its read: the stamp is its own
        ([(1.0, _ROLE), (1.0, _WORD), (3.0, _END)], {1.0: _WIDE}, []),  # one read in two pieces
        ([(1.0, _WORD[:20]), (2.0, _WORD[20:]), (3.0, _END)], {1.0: _WIDE}, []),  # it was complete with the second
        ([(1.0, _WORD), (2.0, _WORD + _WORD), (3.0, _END)], {2.0: _WIDE}, []),  # the first token is not concerned
        ([(1.0, _WORD), (3.0, _WORD + _END)], {3.0: _UNSTAMPED}, ["late_read"]),
        ([(1.0, _ROLE + _WORD), (3.0, _END)], {1.0: _UNSTAMPED}, ["late_read"]),
        ([(1.0, _ROLE + _WORD), (3.0, _END)], {1.0: Vague(0.004, stamped=False)}, []),
        ([(1.0, _ROLE), (3.0, _END)], {1.0: _UNSTAMPED}, []),  # no token, no time to doubt
    ],
)
def test_reads(reads: list[tuple[float, bytes]], vague: dict[float, Vague], expected: list[str]) -> None:
    assert _doubts(reads, vague) == expected


@pytest.mark.parametrize(("sent_at", "expected"), [(0.009, []), (0.011, ["late_send"])])
def test_a_late_send(sent_at: float, expected: list[str]) -> None:
    assert _doubts([(1.0, _WORD), (2.0, _END)], {}, sent_at) == expected


def test_what_was_never_sent_was_not_sent_late() -> None:
    assert list(doubts_of(bare_record(), Exchange(), None, OPENAI_CHAT)) == []


def test_a_stepped_clock() -> None:
    exchange = Exchange(sent_at=0.0, clock_stepped=True)
    assert list(doubts_of(bare_record(), exchange, None, OPENAI_CHAT)) == ["clock_step"]
