"""A plan of several classes of requests, as a workload file describes them.

Every draw is a function of the seed, what is drawn and the arrival's number (or its user, or its question), so a changed
key reshuffles nothing but what it is about.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate
from typing import Any, Generic, TypeVar

from harness.asks import Ask, Said
from harness.errors import UsageError
from harness.pacing import Gaps, Piece, arrival_times, expected_count
from harness.plan import Arrival
from harness.questions import CorpusQuestions, MadeQuestions, Questions, read_corpus
from harness.streams import keyed_integer, keyed_uniform, stream
from harness.workload_file import ArrivalKeys, ClassKeys, Population, QuestionMix, Workload

__all__ = ["MixturePlan", "mixture_plan"]

_NUM_MADE = 1000

T = TypeVar("T")


class _Lottery(Generic[T]):
    """One of several things, by weight."""

    def __init__(self, weights: Mapping[T, float]) -> None:
        self._things = list(weights)
        self._edges = list(accumulate(weights.values()))

    def at(self, uniform: float) -> T:
        return self._things[bisect_left(self._edges, uniform * self._edges[-1])]


def _ranks(population: Population | QuestionMix, num: int) -> _Lottery[int]:
    """Numbers from 0, the k-th with a share proportional to 1 / k^zipf."""
    return _Lottery({rank: (rank + 1) ** -population.zipf for rank in range(num)})


@dataclass(slots=True)
class _Conversation:
    """What a user has said and heard so far in conversation `number`."""

    number: int
    num_turns: int
    messages: tuple[Said, ...]


class _Class:
    """Draws the requests of one class."""

    def __init__(
        self, keys: ClassKeys, workload: Workload, seed: int, count: Callable[[], Callable[[str], int]]
    ) -> None:
        self._keys, self._seed = keys, seed
        self._name = keys.name or "user"
        self._uniform = partial(keyed_uniform, seed)
        self._users = _ranks(keys.users, keys.users.num) if keys.users else None
        self._prefixes = _ranks(keys.prefix, keys.prefix.num) if keys.prefix else None
        labels = ("model", "organization", "tier", "region", "feature", "urgency", "task")
        self._labels: dict[str, _Lottery[Any]] = {
            label: _Lottery(weights) for label in labels if (weights := getattr(keys, label)) is not None
        }
        self._made = MadeQuestions(seed)
        self._questions: Questions = self._made
        if keys.questions is not None:
            self._num_asked = keys.questions.num or _NUM_MADE
            if keys.questions.corpus is not None:
                rows = read_corpus(workload.path.parent / keys.questions.corpus)
                self._num_asked = min(len(rows), keys.questions.num or len(rows))
                self._questions = CorpusQuestions(rows, self._num_asked, seed, count())
            self._popularity = _ranks(keys.questions, self._num_asked)

    def arrival(self, index: int, at_s: float, phase: str, conversations: dict[str, _Conversation]) -> Arrival:
        """Arrival number `index` of the plan; `conversations` is what every user has said before it."""
        keys, key = self._keys, str(index)
        user = None if self._users is None else f"{self._name}-{self._users.at(self._uniform('user', key))}"
        said, intent = self._said(index, key)
        answer = keys.answer
        num_answer = keys.limit if answer is None else answer.at(self._uniform("answer tokens", key))
        if keys.turns == 1:
            messages, session = (*self._prefix(key), said), None
        else:
            assert user is not None
            assert num_answer is not None
            conversation = self._conversation(user, conversations)
            messages, session = (*conversation.messages, said), f"{user}-{conversation.number}"
            heard = Said("assistant", self._named("answer", key), num_answer)
            conversation.messages = (*messages, heard)
        whose = user or key
        ask = Ask(
            messages=messages,
            model=self._label("model", key),
            stream=keys.stream == 1 or self._uniform("stream", key) < keys.stream,
            exact_length=answer is not None,
            user=user,
            organization=self._label("organization", whose),
            tier=self._label("tier", whose),
            region=self._label("region", whose),
            feature=self._label("feature", key),
            session=session,
            urgency=self._label("urgency", key),
            batch=keys.batch,
            intent=intent,
            task=self._label("task", intent),
            difficulty=self._difficulty(intent),
        )
        return Arrival(index, at_s, ask.num_prompt_tokens, num_answer, phase, keys.name, ask=ask)

    def _said(self, index: int, key: str) -> tuple[Said, str]:
        """What the user says, and what it is about: words of the prompt book are about nothing that another says."""
        mix = self._keys.questions
        if mix is None:
            num_tokens = self._keys.prompt.at(self._uniform("prompt tokens", key))
            return Said("user", self._named("prompt", key), num_tokens), f"prompt-{key}"
        lot, number = self._uniform("question", key), self._popularity.at(self._uniform("popularity", key))
        if lot < mix.repeats:
            question = self._questions.asked(number)
        elif lot < mix.repeats + mix.paraphrases:
            question = self._questions.reworded(number, key)
        else:
            question = self._made.asked(self._num_asked + index)
        return Said("user", self._named("text", question.text), question.num_tokens, question.text), question.intent

    def _conversation(self, user: str, conversations: dict[str, _Conversation]) -> _Conversation:
        """The user's conversation, with one more turn; a new one after the last turn."""
        found = conversations.get(user)
        if found is None or found.num_turns == self._keys.turns:
            number = 0 if found is None else found.number + 1
            found = conversations[user] = _Conversation(number, 0, self._prefix(f"{user}-{number}"))
        found.num_turns += 1
        return found

    def _prefix(self, key: str) -> tuple[Said, ...]:
        prefix = self._keys.prefix
        if prefix is None or self._prefixes is None:
            return ()
        number = 0 if prefix.num == 1 else self._prefixes.at(self._uniform("prefix", key))
        return (Said("system", self._named("prefix", f"{self._name}-{number}"), prefix.tokens),)

    def _label(self, label: str, key: str) -> Any:
        lottery = self._labels.get(label)
        return None if lottery is None else lottery.at(self._uniform(label, key))

    def _difficulty(self, key: str) -> float | None:
        found = self._keys.difficulty
        if found is None:
            return None
        return round(found.least + (found.most - found.least) * self._uniform("difficulty", key), 6)

    def _named(self, what: str, key: str) -> int:
        return keyed_integer(self._seed, what, key)


@dataclass(frozen=True)
class MixturePlan:
    """The plan of a workload; `pieces` are its rates over time."""

    workload: Workload
    pieces: tuple[Piece, ...]
    seed: int
    count: Callable[[], Callable[[str], int]]

    @property
    def duration_s(self) -> float:
        return self.pieces[-1].end_s

    @property
    def gaps(self) -> Gaps:
        return self.workload.arrivals.gaps

    @cached_property
    def num_arrivals(self) -> int:
        return sum(1 for _ in self._times())

    def arrivals(self) -> Iterator[Arrival]:
        classes = _Lottery({each: keys.weight for each, keys in self._classes})
        conversations: dict[str, _Conversation] = {}
        for index, (at_s, phase) in enumerate(self._times()):
            drawn = classes.at(keyed_uniform(self.seed, "class", str(index)))
            yield drawn.arrival(index, at_s, phase, conversations)

    def describe(self) -> dict[str, object]:
        return {
            "arrivals": f"{self.gaps}, rate in {len(self.pieces)} pieces",
            "pieces": [[piece.start_s, piece.end_s, piece.rate, piece.phase] for piece in self.pieces],
            "expected_count": expected_count(self.pieces),
            "workload": self.workload.path.name,
            "classes": [keys.model_dump(exclude_none=True) for keys in self.workload.classes],
            "seed": self.seed,
        }

    @cached_property
    def _classes(self) -> list[tuple[_Class, ClassKeys]]:
        return [(_Class(keys, self.workload, self.seed, self.count), keys) for keys in self.workload.classes]

    def _times(self) -> Iterable[tuple[float, str]]:
        return arrival_times(self.pieces, self.gaps, stream(self.seed, "arrivals"))


def mixture_plan(
    workload: Workload,
    *,
    rate: float | None,
    duration_s: float | None,
    seed: int,
    count: Callable[[], Callable[[str], int]],
) -> MixturePlan:
    """The plan of a workload file. `rate` and `duration_s` go before the file's; `count` gives what counts the tokens of a
    text, and is asked only for texts of a corpus. Raises UsageError where neither says how much, or how long."""
    pieces = _in_pieces(workload.arrivals, rate, duration_s)
    return MixturePlan(workload, tuple(pieces), seed, count)


def _in_pieces(keys: ArrivalKeys, rate: float | None, duration_s: float | None) -> list[Piece]:
    if keys.pieces is None:
        rate, duration_s = rate or keys.rate, duration_s or keys.for_s
        if rate is None or duration_s is None:
            raise UsageError(
                "say how much for how long: --rate 20/s --for 10m, or arrivals: {rate: 20/s, for: 10m} in the file"
            )
        return [Piece(0.0, duration_s, rate, "steady")]
    if rate is not None:
        raise UsageError("--rate has no meaning here: the pieces of the workload have rates of their own")
    pieces, start_s = [], 0.0
    for piece in keys.pieces:
        end_s = start_s + piece.for_s
        if duration_s is None or start_s < duration_s:
            pieces.append(
                Piece(start_s, end_s if duration_s is None else min(end_s, duration_s), piece.rate, piece.phase)
            )
        start_s = end_s
    return pieces
