"""How often a semantic cache answers, and how often wrongly, over thresholds: on questions whose intents are known.

Every question comes once, in an order drawn by the seed: it looks for the nearest of those before it that were not
answered from the cache, and is stored itself on a miss. The search is that of the policy `semantic_cache`, without a limit
of time or number. Two questions of one intent may still want different answers: the wrong hits are a lower bound.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mockllm.content.embeddings import Embedder
from mockllm.errors import DataError
from mockllm.stack.answers import Kept
from mockllm.stack.neighbours import Neighbours
from mockllm.stack.semantic_cache import ROUNDING
from mockllm.streams import Streams

__all__ = ["THRESHOLDS", "Outcome", "Question", "in_order", "read_questions", "sweep"]

THRESHOLDS = (0.80, 0.85, 0.90, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)

_TEXT = ("text", "question", "query", "prompt")
_INTENT = ("intent", "category", "label")
_ANYWHERE = ""  # these questions have no context


class Question(NamedTuple):
    """What is asked, and the label of what is meant."""

    text: str
    intent: str


class Outcome(NamedTuple):
    """What became of `num_questions` at one threshold; `num_wrong` hits gave the answer to a question of another intent."""

    threshold: float
    num_questions: int
    num_hits: int
    num_wrong: int

    @property
    def hit_rate(self) -> float:
        """Hits of all questions."""
        return self.num_hits / self.num_questions

    @property
    def wrong_rate(self) -> float:
        """Wrong hits of all questions."""
        return self.num_wrong / self.num_questions

    @property
    def wrong_hit_rate(self) -> float | None:
        """Wrong hits of the hits; None where there were none."""
        return self.num_wrong / self.num_hits if self.num_hits else None


def read_questions(path: Path) -> list[Question]:
    """The rows of a CSV file with a header.

    The first column named text, question, query or prompt is what is asked, intent, category or label what is meant. Raises
    DataError for a file that lacks one of them, or a row that leaves it empty.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            text, intent = _column(path, reader, _TEXT), _column(path, reader, _INTENT)
            questions = []
            for row in reader:
                if not row[text] or not row[intent]:
                    raise DataError(path, f"{text} and {intent} must not be empty", line=reader.line_num)
                questions.append(Question(row[text], row[intent]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(path, f"cannot be read as CSV in UTF-8: {error}") from error
    if not questions:
        raise DataError(path, "has a header and no rows")
    return questions


def in_order(questions: Sequence[Question], seed: int = 0) -> list[Question]:
    """The questions in the order in which they come, the same for the same seed with every version of numpy."""
    streams = Streams(seed)
    order = sorted(range(len(questions)), key=lambda row: streams.integer("semantic sweep", str(row)))
    return [questions[row] for row in order]


def sweep(questions: Sequence[Question], embedder: Embedder, thresholds: Sequence[float] = THRESHOLDS) -> list[Outcome]:
    """What becomes of the questions, in this order, at each threshold."""
    vectors = embedder.embed([question.text for question in questions])
    outcomes = []
    for threshold in thresholds:
        neighbours = Neighbours(len(questions))
        num_hits = num_wrong = 0
        for number, (question, vector) in enumerate(zip(questions, vectors, strict=True)):
            found = neighbours.nearest(_ANYWHERE, vector)
            if found is not None and found[1] >= threshold - ROUNDING:
                num_hits += 1
                num_wrong += found[0].kept.intent != question.intent
            else:
                neighbours.put(number, _ANYWHERE, vector, Kept(0, "stop", None, 0.0, None, question.intent))
        outcomes.append(Outcome(threshold, len(questions), num_hits, num_wrong))
    return outcomes


def _column(path: Path, reader: csv.DictReader[str], names: Sequence[str]) -> str:
    columns = reader.fieldnames or ()
    for name in names:
        if name in columns:
            return name
    raise DataError(path, f"has no column {' or '.join(names)}; there are: {', '.join(columns) or 'none'}", line=1)
