"""Prompts: as many tokens as planned, by the tokenizers themselves; different, or equal, as the plan says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from splintr import Tokenizer

from harness.asks import Ask, Said
from harness.plan import Arrival
from harness.prompts import PromptBook

_LENGTHS = [*range(1, 41), 63, 64, 65, 100, 127, 250, 511, 512, 513, 999, 1024, 2047, 3000, 4096, 4999, 5000]
_WHOLE_BOOK = 40_000  # more than the book has words, so that every word of the vocabulary is in it


def _count_by_splintr(name: str) -> Callable[[str], int]:
    tokenizer = Tokenizer.from_pretrained(name)
    return lambda text: len(tokenizer.encode(text))


def _count_by_quicktok(name: str) -> Callable[[str], int]:
    quicktok: Any = pytest.importorskip("quicktok", reason="quicktok has no wheel for this Python")
    tokenizer = quicktok.get_encoding(name)
    return lambda text: len(tokenizer.encode_ordinary(text))


_COUNTERS = {
    "splintr": (_count_by_splintr, ("cl100k_base", "o200k_base", "llama3")),
    "quicktok": (_count_by_quicktok, ("cl100k_base", "o200k_base")),
}


@pytest.fixture(
    scope="module",
    params=[(library, name) for library, (_, names) in _COUNTERS.items() for name in names],
    ids="-".join,
)
def count(request: pytest.FixtureRequest) -> Callable[[str], int]:
    library, name = request.param
    return _COUNTERS[library][0](name)


def test_a_prompt_has_its_tokens(count: Callable[[str], int]) -> None:
    for seed in (0, 1, 2**40):
        book = PromptBook(seed)
        wrong = {
            (index, length)
            for number, length in enumerate(_LENGTHS)
            for index in (number, 1000 * number)
            if count(book.text(Arrival(index, 0.0, length))) != length
        }
        assert wrong == set()


def test_every_opening_and_every_word_is_one_token(count: Callable[[str], int]) -> None:
    book = PromptBook(4)
    assert count(book.text(Arrival(0, 0.0, _WHOLE_BOOK))) == _WHOLE_BOOK
    assert {count(book.text(Arrival(index, 0.0, 1))) for index in range(500)} == {1}
    assert {count(book.text(Arrival(index, 0.0, 4))) for index in range(5000)} == {4}


def test_a_prompt_of_blocks_has_its_tokens(count: Callable[[str], int]) -> None:
    book = PromptBook(3)
    for length in (1, 2, 15, 16, 17, 31, 32, 33, 48, 49, 200, 1000):
        arrival = Arrival(7, 0.0, length, prefix_blocks=(5, 900_001, 17), block_tokens=16)
        assert count(book.text(arrival)) == length


def test_a_message_has_its_tokens(count: Callable[[str], int]) -> None:
    book = PromptBook(3)
    for length in (1, 2, 3, 4, 17, 500):
        for name in (0, 5, 2**63):
            assert count(book.said(Said("user", name, length))) == length


def test_messages_are_what_was_said_in_its_order() -> None:
    book = PromptBook(3)
    asked = Said("user", 9, 4, "Who are you?")
    arrival = Arrival(1, 0.0, 24, ask=Ask((Said("system", 7, 20), asked)))
    assert book.messages(arrival) == [("system", book.said(Said("assistant", 7, 20))), ("user", "Who are you?")]
    assert book.messages(Arrival(1, 0.0, 24)) == [("user", book.text(Arrival(1, 0.0, 24)))]
    assert PromptBook(4).said(Said("system", 7, 20)) != book.said(Said("system", 7, 20))
    assert len({book.said(Said("user", name, 8)) for name in range(500)}) == 500


# -- different -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 77, 2**63, -5])
def test_no_two_requests_share_the_first_four_words(seed: int) -> None:
    book = PromptBook(seed)
    heads = [tuple(book.text(Arrival(index, 0.0, 12)).split()[:4]) for index in range(5001)]
    assert len(set(heads)) == 5001
    assert len({head[1:] for head in heads}) == 5001  # the words after the opening spell the number


def test_an_index_far_on_has_its_own_words_too() -> None:
    book = PromptBook(0)
    # 90,601 is 301 squared: two words of the vocabulary alone would not tell these from the first.
    numbers = [*range(2000), *range(90_601, 92_601), *range(5_000_000, 5_002_000)]
    assert len({tuple(book.text(Arrival(index, 0.0, 4)).split()[1:]) for index in numbers}) == len(numbers)


def test_another_seed_asks_something_else() -> None:
    texts = {PromptBook(seed).text(Arrival(3, 0.0, 50)) for seed in range(100)}
    assert len(texts) == 100


# -- equal -----------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_text() -> None:
    arrivals = [
        Arrival(1, 0.0, 700),
        Arrival(2, 3.0, 700),
        Arrival(3, 0.0, 90, prefix_blocks=(1, 2), block_tokens=32),
    ]
    forward = [PromptBook(9).text(arrival) for arrival in arrivals]
    book = PromptBook(9)
    assert [book.text(arrival) for arrival in reversed(arrivals)] == forward[::-1]  # the order of asking is nothing


def test_the_text_does_not_depend_on_the_instant() -> None:
    book = PromptBook(9)
    assert book.text(Arrival(1, 0.0, 70)) == book.text(Arrival(1, 9.0, 70, num_output_tokens=3, phase="burst"))


def _words(book: PromptBook, index: int, blocks: tuple[int, ...], length: int = 60) -> list[str]:
    return book.text(Arrival(index, 0.0, length, prefix_blocks=blocks, block_tokens=16)).split()


def test_equal_blocks_give_equal_leading_text() -> None:
    book = PromptBook(2)
    one, same, other = _words(book, 1, (4, 8)), _words(book, 2, (4, 8)), _words(book, 3, (4, 9))
    assert one[:32] == same[:32]
    assert one[32:] != same[32:]  # the rest is the request's own
    assert one[:16] == other[:16]
    assert one[16:32] != other[16:32]


def test_blocks_are_equal_as_tokens(count: Callable[[str], int]) -> None:
    book = PromptBook(2)
    one, same = " ".join(_words(book, 1, (4, 8))[:32]), " ".join(_words(book, 2, (4, 8))[:32])
    assert one == same
    assert count(one) == 32


def test_a_block_is_cut_to_the_length_of_the_prompt() -> None:
    book = PromptBook(2)
    whole = _words(book, 1, (4, 8, 15), 48)
    for length in (1, 5, 16, 20, 32, 40, 47):
        assert _words(book, 2, (4, 8, 15), length) == whole[:length]


@pytest.mark.parametrize("above", [(), (0,)], ids=["first block", "second block"])
def test_different_blocks_give_different_text(above: tuple[int, ...]) -> None:
    book, length = PromptBook(0), 16 * (len(above) + 1)
    texts = {tuple(_words(book, 0, (*above, block), length)) for block in range(1, 5001)}
    assert len(texts) == 5000
