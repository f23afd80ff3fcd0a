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

from harness.arrivals.pacing import Gaps, Piece, arrival_times, describe_pacing
from harness.asks import Ask, Said
from harness.objectives import Objective, parse_objective
from harness.plan import Arrival
from harness.streams import keyed_integer, keyed_uniform, salted, stream
from harness.tokens import token_counter
from harness.workloads.attachments import Tool, made_tools, picture, picture_tokens, tool_tokens
from harness.workloads.file import ClassKeys, Population, QuestionMix, ToolKeys, Workload
from harness.workloads.length_keys import Lengths
from harness.workloads.lengths import LengthLaw
from harness.workloads.questions import CorpusQuestions, MadeQuestions, Questions, read_corpus
from harness.workloads.synthetic import AZURE_CONVERSATION_OUTPUT, AZURE_CONVERSATION_PROMPT

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


class _Drawn:
    """Lengths of one kind, drawn by key. Two that come from one file are drawn as one row of it."""

    def __init__(self, keys: Lengths | None, default: LengthLaw, what: str, workload: Workload) -> None:
        self._law = default if keys is None else keys.law(workload.path.parent)
        self._purpose = what if keys is None or keys.file is None else f"row of {keys.file}"

    def at(self, seed: int, key: str) -> int:
        return self._law.at(keyed_uniform(seed, self._purpose, key))


class _Attached:
    """What a class sends along with every request."""

    def __init__(self, keys: ClassKeys, seed: int, salt: str, count: Callable[[], Callable[[str], int]]) -> None:
        self._images, self._name, self._seed = keys.images, keys.name or "", salted(seed, salt)
        self.tools: tuple[Tool, ...] = ()
        self.num_tool_tokens = self.num_image_tokens = 0
        if keys.tools is not None:
            self.tools = self._functions(keys.tools, count())
            self.num_tool_tokens = tool_tokens(self.tools, count())
        if keys.images is not None:
            self.num_image_tokens = keys.images.num * picture_tokens(keys.images.width, keys.images.height)

    def images(self, key: str) -> tuple[str, ...]:
        """Pictures that nobody else shows."""
        asked = self._images
        if asked is None:
            return ()
        names = (keyed_integer(self._seed, f"picture {number}", key) for number in range(asked.num))
        return tuple(picture(asked.width, asked.height, name) for name in names)

    def _functions(self, keys: ToolKeys, count: Callable[[str], int]) -> tuple[Tool, ...]:
        if keys.num is not None:
            return made_tools(keys.num, keys.tokens, keyed_integer(self._seed, "tools", self._name), count)
        return tuple(each.model_dump() for each in keys.functions or ())


class _Class:
    """Draws the requests of one class."""

    def __init__(
        self, keys: ClassKeys, workload: Workload, seed: int, salt: str, count: Callable[[], Callable[[str], int]]
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
        self._prompts = _Drawn(keys.prompt_tokens, AZURE_CONVERSATION_PROMPT, "prompt tokens", workload)
        answers = keys.answer_tokens if keys.plans_answers else None
        self._answers = _Drawn(answers, AZURE_CONVERSATION_OUTPUT, "answer tokens", workload)
        self._attached = _Attached(keys, seed, salt, count)
        self._made = MadeQuestions(seed, salt)
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
        num_answer = self._answers.at(self._seed, key) if keys.plans_answers else keys.limit
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
            exact_length=keys.plans_answers,
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
            tools=self._attached.tools,
            images=self._attached.images(key),
            num_tool_tokens=self._attached.num_tool_tokens,
            num_image_tokens=self._attached.num_image_tokens,
        )
        return Arrival(index, at_s, ask.num_prompt_tokens, num_answer, phase, keys.name, ask=ask)

    def _said(self, index: int, key: str) -> tuple[Said, str]:
        """What the user says, and what it is about: words of the prompt book are about nothing that another says."""
        mix = self._keys.questions
        if mix is None:
            return Said("user", self._named("prompt", key), self._prompts.at(self._seed, key)), f"prompt-{key}"
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
    salt: str = ""
    count: Callable[[], Callable[[str], int]] = token_counter

    @property
    def duration_s(self) -> float:
        return self.pieces[-1].end_s

    @property
    def gaps(self) -> Gaps:
        return self.workload.arrivals.gap_law

    @property
    def models(self) -> frozenset[str]:
        """The models that the workload names; other requests are for the run's."""
        return frozenset(name for keys in self.workload.classes for name in keys.model or ())

    @property
    def objectives(self) -> dict[str, Objective]:
        """What a good request of each class meets, by its name; "" where the workload has one class without a name."""
        given = ((keys.name or "", keys.objective) for keys in self.workload.classes)
        return {name: parse_objective(bounds) for name, bounds in given if bounds is not None}

    def prepare(self) -> None:
        """Read what the workload names: corpora and columns of lengths. Raises UsageError."""
        assert self._classes

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
            **describe_pacing(self.pieces, self.gaps),
            "workload": self.workload.path.name,
            "classes": [keys.model_dump(exclude_none=True, by_alias=True) for keys in self.workload.classes],
            "seed": self.seed,
        }

    @cached_property
    def _classes(self) -> list[tuple[_Class, ClassKeys]]:
        return [(_Class(keys, self.workload, self.seed, self.salt, self.count), keys) for keys in self.workload.classes]

    def _times(self) -> Iterable[tuple[float, str]]:
        return arrival_times(self.pieces, self.gaps, stream(self.seed, "arrivals"))


def mixture_plan(
    workload: Workload,
    *,
    rate: float | None,
    duration_s: float | None,
    seed: int,
    salt: str = "",
    count: Callable[[], Callable[[str], int]] = token_counter,
) -> MixturePlan:
    """The plan of a workload. `rate` and `duration_s` go before the workload's; `count` gives what counts the tokens of a
    text, and is asked only for texts of a corpus and for tools. Another `salt` makes other words of the same lengths, with
    the same repeats; what stands in a file, a corpus or tools, stays as it is.

    Raises UsageError where neither says how much, or how long, for a curve that does not fit into the time, and for a file
    that cannot be read.
    """
    pieces = workload.arrivals.pieces(rate, duration_s, stream(seed, "curve"))
    plan = MixturePlan(workload, tuple(pieces), seed, salt, count)
    plan.prepare()  # a file that cannot be read is said now, and not in the middle of a run
    return plan
