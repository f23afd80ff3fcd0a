"""Sessions: conversations and agents, whose every turn repeats all that was said and heard before it.

Sessions arrive in an open loop, whatever the server does. Within one, a turn is planned when the answer to the last has
come: somebody reads and thinks, or an agent runs a tool. So prompts grow, and a server with a prefix cache reads only what
is new (vLLM: automatic prefix caching; providers: prompt caching).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from harness.arrivals.pacing import Gaps, Piece, arrival_times, describe_pacing
from harness.asks import Ask, Said
from harness.errors import UsageError
from harness.plan import Arrival, Heard
from harness.reactive.pauses import NO_PAUSE, Lengths, ThinkTime, over_at
from harness.records import RequestRecord
from harness.streams import keyed_integer, keyed_uniform
from harness.streams import stream as random_stream

__all__ = ["QUESTION", "TOOL_RESULT", "SessionLaw", "SessionPlan"]

QUESTION, TOOL_RESULT = "question", "tool result"


@dataclass(frozen=True)
class SessionLaw:
    """What sessions are like.

    All begin with the same system prompt of `system_tokens`. Of the turns after the first, a share of `tool_share` brings
    the result of a tool, `tool_tokens` long and after the tool's running time `tool_time`; the others a question,
    `question_tokens` long and after the think time. A session has `turns` turns, fewer where its next prompt and answer
    would not fit into `context_tokens`.
    """

    turns: Lengths
    question_tokens: Lengths
    answer_tokens: Lengths
    think_time: ThinkTime
    system_tokens: int = 0
    tool_share: float = 0.0
    tool_tokens: Lengths | None = None
    tool_time: ThinkTime = NO_PAUSE
    context_tokens: int | None = None

    def __post_init__(self) -> None:
        """Raises UsageError for a law that makes no session."""
        if not 0 <= self.tool_share <= 1:
            raise UsageError(f"a share of {self.tool_share:g} tool results is not between 0 and 1")
        if self.tool_share and self.tool_tokens is None:
            raise UsageError("say how long the results of tools are")
        if self.system_tokens < 0:
            raise UsageError(f"a system prompt of {self.system_tokens} tokens cannot be; write 0 for none")
        if self.context_tokens is not None and self.context_tokens <= self.system_tokens:
            raise UsageError(
                f"a context of {self.context_tokens} tokens has no room beside a system prompt of {self.system_tokens}; "
                "write more, or a shorter system prompt"
            )

    def describe(self) -> dict[str, object]:
        tools = {} if self.tool_tokens is None else {"tool_tokens": self.tool_tokens.describe()}
        return {
            "turns": self.turns.describe(),
            "system_tokens": self.system_tokens,
            "question_tokens": self.question_tokens.describe(),
            "answer_tokens": self.answer_tokens.describe(),
            "think_time": self.think_time.describe(),
            "tool_share": self.tool_share,
            **tools,
            "tool_time": self.tool_time.describe(),
            "context_tokens": self.context_tokens,
        }


@dataclass(frozen=True)
class SessionPlan:
    """Sessions that begin at the rate of `pieces`; turn `turn` of session `index` is the request "index.turn".

    A turn that is not ok ends its session: there is nothing to go on from. Its last record shows it
    (`harness.reactive.turns`). Turns that would be sent after the plan's end are not sent. In real time the history holds the
    answers that were heard, so that a prefix cache meets its own words again; in virtual time, where no words are, a
    message of as many tokens stands for them.
    """

    pieces: Sequence[Piece]
    gaps: Gaps
    law: SessionLaw
    seed: int
    stream: bool = True

    @property
    def duration_s(self) -> float:
        return self.pieces[-1].end_s

    @cached_property
    def num_arrivals(self) -> int:
        return sum(1 for _ in self._starts())

    def arrivals(self) -> Iterator[Arrival]:
        """The first turn of every session."""
        for index, (at_s, phase) in enumerate(self._starts()):
            system = Said("system", keyed_integer(self.seed, "system prompt", ""), self.law.system_tokens)
            yield self._turn(index, 0, at_s, phase, (system,) if self.law.system_tokens else ())

    def after(self, arrival: Arrival, record: RequestRecord, heard: Heard) -> Iterable[Arrival]:
        """The session's next turn, if it has one and there is time for it."""
        turn, law = arrival.turn + 1, self.law
        if record.outcome != "ok" or turn >= self.num_turns(arrival.index):
            return
        at_s = over_at(arrival, record) + self._pause(arrival.index, turn)
        assert arrival.ask is not None
        following = self._turn(
            arrival.index, turn, at_s, arrival.phase, (*arrival.ask.messages, self._heard(arrival, record, heard))
        )
        num_tokens = following.num_prompt_tokens + (following.num_output_tokens or 0)
        if at_s < self.duration_s and (law.context_tokens is None or num_tokens <= law.context_tokens):
            yield following

    def num_turns(self, index: int) -> int:
        """The turns of a session where nothing goes wrong."""
        return self.law.turns.at(keyed_uniform(self.seed, "turns", str(index)))

    def describe(self) -> dict[str, object]:
        return {
            "arrivals": f"sessions: {self.gaps}, rate in {len(self.pieces)} pieces; their turns follow answers",
            "session_arrivals": describe_pacing(self.pieces, self.gaps),
            "sessions": self.law.describe(),
            "seed": self.seed,
        }

    def _starts(self) -> Iterable[tuple[float, str]]:
        return arrival_times(self.pieces, self.gaps, random_stream(self.seed, "session arrivals"))

    def _is_tool(self, index: int, turn: int) -> bool:
        return turn > 0 and keyed_uniform(self.seed, "tool", f"{index}.{turn}") < self.law.tool_share

    def _pause(self, index: int, turn: int) -> float:
        law = self.law.tool_time if self._is_tool(index, turn) else self.law.think_time
        return law.at(keyed_uniform(self.seed, "think time", f"{index}.{turn}"))

    def _turn(self, index: int, turn: int, at_s: float, phase: str | None, history: tuple[Said, ...]) -> Arrival:
        key, law = f"{index}.{turn}", self.law
        lengths, class_name = law.question_tokens, QUESTION
        if self._is_tool(index, turn):
            assert law.tool_tokens is not None
            lengths, class_name = law.tool_tokens, TOOL_RESULT
        num_said = lengths.at(keyed_uniform(self.seed, "said tokens", key))
        said = Said("user", keyed_integer(self.seed, "said in a session", key), num_said)
        ask = Ask((*history, said), stream=self.stream, user=f"user-{index}", session=f"session-{index}")
        num_answer = law.answer_tokens.at(keyed_uniform(self.seed, "answer tokens", key))
        return Arrival(index, at_s, ask.num_prompt_tokens, num_answer, phase, class_name, ask=ask, turn=turn)

    def _heard(self, arrival: Arrival, record: RequestRecord, heard: Heard) -> Said:
        """The answer as a message of the history; an empty one (a tool call without words) is worded by the book."""
        num_tokens = record.num_output_tokens or arrival.num_output_tokens or 1
        name = keyed_integer(self.seed, "heard in a session", f"{arrival.index}.{arrival.turn}")
        return Said("assistant", name, num_tokens, heard.text or None)
