"""Questions that caches and routers can tell apart: asked again word for word, in other words, or for the first time.

Made ones are built of a sentence's parts: what is to be done (`compare the new hotel contract with the local bank`) and
when (`before the summer flight`), under an opening (`How do I ...?`). Another wording of a question has another opening,
or another place for the when, or leaves it out. So an embedding puts wordings of one question near each other and two
questions far apart. By the static embedder of the mock, two thirds of the other wordings have a cosine of .95 or more
with the first, four fifths .85, and the nearest of 4,000 other questions has .84 at most (tests/harness/test_questions.py).
Questions of real users lie closer together: to see wrong hits at usual thresholds, take a corpus of labelled texts.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

from harness.errors import WorkloadError
from harness.streams import keyed_integer, keyed_uniform, salted
from harness.workloads.vocabulary import ADJECTIVES, JOINTS, NOUNS, VERBS, WHENS

__all__ = ["CorpusQuestions", "MadeQuestions", "Question", "Questions", "read_corpus"]


_OPENINGS = (
    ("how do I", "?"),
    ("how can I", "?"),
    ("how should I", "?"),
    ("please explain how I can", "."),
    ("what is the best way to", "?"),
    ("can you tell me how to", "?"),
)
_NUM_WORDINGS = 3 * len(_OPENINGS)  # the when at the end, at the beginning, or left out
_LONGEST = 200
_TEXT, _INTENT = ("text", "question", "query"), ("intent", "category", "label")


class Question(NamedTuple):
    """A text of `num_tokens` tokens, and what it is about: two texts with one intent want one answer."""

    text: str
    num_tokens: int
    intent: str


class Questions(Protocol):
    """A population of questions by number, the most popular first."""

    def asked(self, number: int) -> Question: ...  # always in the same words
    def reworded(self, number: int, key: str) -> Question: ...  # in other words, drawn by key


class MadeQuestions:
    """As many questions as there are numbers. Another salt asks other questions of the same lengths: the n-th is reworded
    as often and in the same ways."""

    def __init__(self, seed: int, salt: str = "") -> None:
        self._seed = seed
        self._words_seed = salted(seed, salt)

    def asked(self, number: int) -> Question:
        """Question `number` as most people put it."""
        return self._worded(number, 0)

    def reworded(self, number: int, key: str) -> Question:
        """The same question in one of 17 other wordings."""
        return self._worded(number, 1 + keyed_integer(self._seed, "wording", key) % (_NUM_WORDINGS - 1))

    def _worded(self, number: int, wording: int) -> Question:
        done, when = self._parts(number)
        place, which = divmod(wording, len(_OPENINGS))
        opening, end = _OPENINGS[which]
        sentence = (f"{opening} {done} {when}{end}", f"{when}, {opening} {done}{end}", f"{opening} {done}{end}")[place]
        text = sentence[0].upper() + sentence[1:]
        return Question(
            text, len(text.split()) + 1 + text.count(","), f"made-{number}"
        )  # the end is a token, and a comma

    def _parts(self, number: int) -> tuple[str, str]:
        dice = keyed_integer(self._words_seed, "question", str(number))

        def one_of(words: Sequence[str]) -> str:
            nonlocal dice
            dice, place = divmod(dice, len(words))
            return words[place]

        def thing() -> str:
            return f"the {one_of(ADJECTIVES)} {one_of(NOUNS)}"

        done = f"{one_of(VERBS)} {thing()} {one_of(NOUNS)} {one_of(JOINTS)} {thing()}"
        return done, f"{one_of(WHENS)} {thing()} {one_of(NOUNS)}"


class CorpusQuestions:
    """The first `num` of labelled texts, shuffled by the seed; in other words: another text with the same intent.

    A text that is the only one of its intent is repeated as it stands. Its texts are what they are: no salt makes others
    of them, so a cache that lives through a run knows them in the next.
    """

    def __init__(self, rows: Sequence[tuple[str, str]], num: int, seed: int, count: Callable[[str], int]) -> None:
        order = sorted(range(len(rows)), key=lambda row: keyed_uniform(seed, "corpus", str(row)))
        self._seed, self._count = seed, lru_cache(maxsize=2**16)(count)
        self._asked = [rows[row] for row in order[:num]]
        self._of_intent: dict[str, list[str]] = defaultdict(list)
        for text, intent in rows:
            self._of_intent[intent].append(text)

    def asked(self, number: int) -> Question:
        """Text `number` of the shuffled corpus."""
        text, intent = self._asked[number]
        return Question(text, self._count(text), intent)

    def reworded(self, number: int, key: str) -> Question:
        """Another text with the intent of text `number`."""
        text, intent = self._asked[number]
        others = [other for other in self._of_intent[intent] if other != text] or [text]
        chosen = others[keyed_integer(self._seed, "wording", key) % len(others)]
        return Question(chosen, self._count(chosen), intent)


def read_corpus(path: Path) -> list[tuple[str, str]]:
    """Text and intent of every row of a CSV file with such columns. Raises WorkloadError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            text, intent = (_column(path, list(reader.fieldnames or []), names) for names in (_TEXT, _INTENT))
            rows = []
            for cells in reader:
                if not cells[text] or not cells[intent]:
                    raise WorkloadError(path, f"{text} and {intent} must not be empty", line=reader.line_num)
                if not _fits_into_a_header(cells[intent]):
                    rule = f"{cells[intent][:60]!r} must be at most {_LONGEST} printable ASCII characters: it goes into a header"
                    raise WorkloadError(path, rule, line=reader.line_num, key=intent)
                rows.append((cells[text], cells[intent]))
    except (OSError, ValueError, csv.Error) as error:
        raise WorkloadError(path, f"cannot be read: {error}") from error
    if not rows:
        raise WorkloadError(path, "holds no text")
    return rows


def _fits_into_a_header(label: str) -> bool:
    return label.isascii() and label.isprintable() and len(label) <= _LONGEST


def _column(path: Path, found: list[str], names: tuple[str, ...]) -> str:
    for name in names:
        if name in found:
            return name
    raise WorkloadError(path, f"has the columns {', '.join(found)!r}; one of {', '.join(names)} is needed", line=1)
