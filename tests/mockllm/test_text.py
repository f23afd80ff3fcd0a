"""What the mock says: as many tokens as it claims, by tokenizers it does not use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from splintr import Tokenizer

from mockllm.content.text import Speaker
from mockllm.streams import Streams

SPEAKER = Speaker(Streams(1))
VOCABULARIES = {name: Tokenizer.from_pretrained(name) for name in ("cl100k_base", "o200k_base", "llama3")}


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_every_token_of_an_answer_is_one_token_of_the_vocabulary(vocabulary: str) -> None:
    for number in range(40):
        text = SPEAKER.answer(f"key {number}").piece(0, 500)
        assert len(VOCABULARIES[vocabulary].encode(text)) == 500


def test_another_tokenizer_counts_the_same() -> None:
    quicktok = pytest.importorskip("quicktok", reason="NOT CHECKED: no wheel of quicktok for this Python")
    encoding = quicktok.get_encoding("o200k_base")
    for num in (1, 2, 7, 1000, 25_000):
        assert encoding.count(SPEAKER.answer("a").piece(0, num)) == num


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60))
def test_pieces_join_to_the_whole(sizes: list[int]) -> None:
    answer, first, text = SPEAKER.answer("joined"), 0, ""
    for size in sizes:
        text += answer.piece(first, size)
        first += size
    assert text == answer.piece(0, first)


def test_the_same_key_says_the_same_and_other_keys_mostly_something_else() -> None:
    said = {SPEAKER.answer(f"k{number}").piece(0, 20) for number in range(200)}
    assert SPEAKER.answer("k1").piece(0, 20) == Speaker(Streams(1)).answer("k1").piece(0, 20)
    assert len(said) > 150
    assert all(text[0].isupper() for text in said)
