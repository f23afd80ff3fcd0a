"""What became of sessions, from their records: by turn, and how they ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import msgspec
import numpy as np

from harness.quantiles import samples_needed
from harness.records import RequestRecord

__all__ = ["Sessions", "Turn", "sessions_of", "sessions_text"]

_MOST_ROWS = 12


class Turn(msgspec.Struct, frozen=True):
    """Turn number `turn` (from 0) of all sessions. Means and medians are those of answers that are ok; None: there is none, or
    too few. `cached_share` is that of the prompt tokens the server says it read from a cache."""

    turn: int
    num: int
    num_ok: int
    mean_prompt_tokens: float | None
    cached_share: float | None
    ttft_p50_s: float | None


class Sessions(msgspec.Struct, frozen=True):
    """`num_broken` sessions ended early, with a turn that is not ok; `num_open` had no answer when the run ended. What is left
    came to its end, or to the end of the plan."""

    num: int
    num_broken: int
    num_open: int
    turns: list[Turn]


def sessions_of(records: Iterable[RequestRecord]) -> Sessions:
    """Fold records whose ids end in "session.turn", as `harness.reactive.sessions` names them."""
    by_turn: dict[int, list[RequestRecord]] = defaultdict(list)
    last: dict[str, tuple[int, str]] = {}
    for record in records:
        session, _, turn_text = record.request_id.rpartition("-")[2].partition(".")
        turn = int(turn_text or 0)
        by_turn[turn].append(record)
        last[session] = max(last.get(session, (-1, "")), (turn, record.outcome))
    ends = [outcome for _, outcome in last.values()]
    num_open = ends.count("incomplete")
    return Sessions(
        num=len(last),
        num_broken=len(ends) - ends.count("ok") - num_open,
        num_open=num_open,
        turns=[_turn(turn, by_turn[turn]) for turn in sorted(by_turn)],
    )


def sessions_text(sessions: Sessions) -> list[str]:
    """Lines for a terminal; of long sessions the first turns and the last."""
    head = f"{sessions.num} sessions: {sessions.num_broken} ended early by a turn that was not ok"
    if sessions.num_open:
        head += f", {sessions.num_open} were open when the run ended"
    lines = [head, "turn      num  prompt tokens  cached  TTFT p50 ms"]
    rows = sessions.turns
    for place, row in enumerate(rows):
        if len(rows) <= _MOST_ROWS or place < _MOST_ROWS - 1 or place == len(rows) - 1:
            prompt = _shown(row.mean_prompt_tokens, 13, ",.0f")
            cached, ttft = _shown(row.cached_share, 6, ".0%"), _shown(row.ttft_p50_s, 11, ",.0f", 1e3)
            lines.append(f"{row.turn + 1:>4}  {row.num:>7}  {prompt}  {cached}  {ttft}")
        elif place == _MOST_ROWS - 1:
            lines.append(" ...")
    return lines


def _turn(turn: int, records: list[RequestRecord]) -> Turn:
    good = [record for record in records if record.outcome == "ok"]
    prompts = [record.num_prompt_tokens for record in good if record.num_prompt_tokens is not None]
    told = [record for record in good if record.num_prompt_tokens and record.num_cached_tokens is not None]
    ttfts = [record.first_token_at - record.intended_at for record in good if record.first_token_at is not None]
    num_told = sum(record.num_prompt_tokens or 0 for record in told)
    return Turn(
        turn=turn,
        num=len(records),
        num_ok=len(good),
        mean_prompt_tokens=float(np.mean(prompts)) if prompts else None,
        cached_share=sum(record.num_cached_tokens or 0 for record in told) / num_told if num_told else None,
        ttft_p50_s=float(np.median(ttfts)) if len(ttfts) >= samples_needed(50) else None,
    )


def _shown(value: float | None, width: int, form: str, times: float = 1.0) -> str:
    return f"{'–' if value is None else format(value * times, form):>{width}}"
