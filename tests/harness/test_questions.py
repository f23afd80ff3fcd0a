"""Made questions: their tokens, by the tokenizers themselves, and how far apart an embedding finds them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from splintr import Tokenizer

from harness.tokens import token_counter
from harness.workloads.questions import CorpusQuestions, MadeQuestions, read_corpus
from mockllm.content.embeddings import default_embedder

_NUMBERS = [*range(1500), *range(10**9, 10**9 + 50)]


def _counters() -> list[Callable[[str], int]]:
    splintr = Tokenizer.from_pretrained("o200k_base")
    quicktok: Any = pytest.importorskip("quicktok", reason="quicktok has no wheel for this Python").get_encoding(
        "o200k_base"
    )
    return [lambda text: len(splintr.encode_ordinary(text)), lambda text: len(quicktok.encode_ordinary(text))]


def test_tokens_are_counted_without_a_tokenizer() -> None:
    made = MadeQuestions(1)
    questions = [made.asked(number) for number in _NUMBERS]
    questions += [made.reworded(number, f"{number} {turn}") for number in _NUMBERS for turn in range(12)]
    for count in _counters():
        assert [question for question in questions if count(question.text) != question.num_tokens] == []


def test_a_question_is_the_same_every_time_and_no_other() -> None:
    made = MadeQuestions(4)
    texts = [made.asked(number).text for number in range(20_000)]
    assert len(set(texts)) == 20_000
    assert [MadeQuestions(4).asked(number).text for number in (7, 3, 7)] == [texts[7], texts[3], texts[7]]
    assert made.asked(3).text != MadeQuestions(5).asked(3).text


def test_another_wording_has_other_words_and_the_same_intent() -> None:
    made = MadeQuestions(4)
    for number in range(50):
        asked = made.asked(number)
        wordings = {made.reworded(number, str(key)) for key in range(300)}
        assert len({each.text for each in wordings}) == 17
        assert asked.text not in {each.text for each in wordings}
        assert {each.intent for each in wordings} == {asked.intent}


def test_an_embedding_finds_wordings_near_and_questions_far() -> None:
    """The figures of the module's docstring, by the embedder that comes with the mock."""
    made, embedder = MadeQuestions(1), default_embedder()
    first = embedder.embed([made.asked(number).text for number in range(4000)])
    wordings = embedder.embed([made.reworded(number, str(number)).text for number in range(4000)])
    near = (first * wordings).sum(axis=1)
    assert (near >= 0.95).mean() == pytest.approx(2 / 3, abs=0.03)
    assert (near >= 0.85).mean() == pytest.approx(0.79, abs=0.03)
    others = first @ first.T
    np.fill_diagonal(others, -1)
    assert others.max() == pytest.approx(0.84, abs=0.005)
    assert np.median(others.max(axis=1)) < 0.75


def test_a_corpus_is_asked_in_an_order_of_its_own(tmp_path: Path) -> None:
    rows = [(f"q{number}", f"i{number % 5}") for number in range(100)]
    questions = CorpusQuestions(rows, 30, 1, len)
    asked = [questions.asked(number) for number in range(30)]
    assert len({each.text for each in asked}) == 30
    assert [each.text for each in asked] != [text for text, _ in rows[:30]]
    assert [each.text for each in asked] != [CorpusQuestions(rows, 30, 2, len).asked(n).text for n in range(30)]
    for number, each in enumerate(asked):
        other = questions.reworded(number, "x")
        assert (other.text != each.text, other.intent) == (True, each.intent)
        assert dict(rows)[other.text] == other.intent


def test_a_text_without_another_of_its_intent_is_repeated() -> None:
    questions = CorpusQuestions([("only", "lonely"), ("a", "x"), ("b", "x")], 3, 1, len)
    words = {questions.asked(number).text: questions.reworded(number, "k").text for number in range(3)}
    assert words == {"only": "only", "a": "b", "b": "a"}


def test_real_questions_can_be_read(shared_data: Path) -> None:
    path = shared_data / "banking77" / "train.csv"
    rows = read_corpus(path)
    with path.open(newline="", encoding="utf-8") as file:
        assert len(rows) == sum(1 for _ in csv.DictReader(file)) > 9000
    assert len({intent for _, intent in rows}) == 77
    questions = CorpusQuestions(rows, 500, 3, token_counter())
    texts = [questions.asked(number).text for number in range(500)]
    others = [questions.reworded(number, str(number)).text for number in range(500)]
    embedder = default_embedder()
    near = (embedder.embed(texts) * embedder.embed(others)).sum(axis=1)
    assert 0.3 < np.median(near) < 0.9  # real wordings of one intent lie further apart than made ones
