"""Prompts: as many tokens as planned, by the tokenizers themselves; different, or equal, as the plan says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from splintr import Tokenizer

from harness.asks import Ask, Said
from harness.plan import Arrival
from harness.workloads import vocabulary
from harness.workloads.prompts import PromptBook, ask_of

_LENGTHS = [*range(1, 41), 63, 64, 65, 100, 127, 250, 511, 512, 513, 999, 1024, 2047, 3000, 4096, 4999, 5000]
_WHOLE_BOOK = 40_000  # more than the book has words, so that every word of the vocabulary is in it


def _count_by_splintr(name: str) -> Callable[[str], int]:
    tokenizer = Tokenizer.from_pretrained(name)
    return lambda text: len(tokenizer.encode_ordinary(text))


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
    assert {count(book.text(Arrival(index, 0.0, 9))) for index in range(5000)} == {9}


def test_every_word_of_the_shared_vocabulary_is_one_token(count: Callable[[str], int]) -> None:
    lists = [getattr(vocabulary, name) for name in vocabulary.__all__ if name.isupper()]
    assert [word for words in lists for word in words if count(f" {word}") != 1] == []


def test_a_prompt_of_blocks_has_its_tokens(count: Callable[[str], int]) -> None:
    book = PromptBook(3)
    for length in (1, 2, 15, 16, 17, 31, 32, 33, 48, 49, 200, 1000):
        arrival = Arrival(7, 0.0, length, prefix_blocks=(5, 900_001, 17), block_tokens=16)
        assert count(book.text(arrival)) == length
    for size in (1, 2, 8, 9, 10, 17, 64):  # wherever a block ends, the next one begins with a token of its own
        blocks = tuple(range(100, 400))
        assert (
            count(book.text(Arrival(7, 0.0, 300 * size + 5, prefix_blocks=blocks, block_tokens=size))) == 300 * size + 5
        )


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
def test_no_two_requests_share_the_three_words_after_the_first(seed: int) -> None:
    book = PromptBook(seed)
    heads = [tuple(book.text(Arrival(index, 0.0, 12)).split()[1:4]) for index in range(5001)]
    assert len(set(heads)) == 5001


def test_an_index_far_on_has_its_own_words_too() -> None:
    book = PromptBook(0)
    # 499,230 is 30 * 129 * 129, the number of beginnings of three words: these share theirs with the first.
    numbers = [*range(2000), *range(499_230, 501_230), *range(50_000_000, 50_002_000)]
    assert len({book.text(Arrival(index, 0.0, 8)).partition(" ")[2] for index in numbers}) == len(numbers)


def test_a_later_turn_has_words_of_its_own() -> None:
    book = PromptBook(0)
    texts = {book.text(Arrival(index, 0.0, 9, turn=turn)) for index in range(100) for turn in range(30)}
    assert len(texts) == 3000


def _ids(texts: Iterable[str]) -> list[tuple[int, ...]]:
    tokenizer = Tokenizer.from_pretrained("o200k_base")
    return [tuple(tokenizer.encode_ordinary(text)[:16]) for text in texts]


def test_books_of_two_salts_share_no_block() -> None:
    """A block of a prefix cache is 16 tokens."""
    one, two, same = PromptBook(3, "a"), PromptBook(3, "b"), PromptBook(3, "a")
    arrivals = [Arrival(index, 0.0, 400) for index in range(2000)]
    arrivals += [Arrival(0, 0.0, 400, prefix_blocks=(block,), block_tokens=400) for block in range(2000)]
    said = [Said("system", name, 400) for name in range(2000)]
    ones, twos = ([*map(book.text, arrivals), *map(book.said, said)] for book in (one, two))
    assert len({*_ids(ones), *_ids(twos)}) == 12_000
    assert [*map(same.text, arrivals), *map(same.said, said)] == ones
    within = _pieces(ones[::40])
    assert len(within) > 20_000
    assert within.isdisjoint(_pieces(twos[::40]))


def _pieces(texts: Iterable[str]) -> set[str]:
    """Every 14 words in a row."""
    split = [text.split() for text in texts]
    return {" ".join(words[start : start + 14]) for words in split for start in range(len(words) - 14)}


def test_a_prompt_reads_like_sentences() -> None:
    book = PromptBook(5)
    for index in range(500):
        text = book.text(Arrival(index, 0.0, 10 + index % 300))
        assert text.endswith(".")
        sentences = re.findall(r"[^.?]+[.?]", text)
        assert "".join(sentences) == text
        assert all(re.match(r"\s*[A-Z][a-z]*( [a-z]+,?)*[.?]$", sentence) for sentence in sentences)
        assert len(set(sentences)) == len(sentences)


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


def _tokens(book: PromptBook, index: int, blocks: tuple[int, ...], length: int = 60) -> list[int]:
    text = book.text(Arrival(index, 0.0, length, prefix_blocks=blocks, block_tokens=16))
    ids: list[int] = Tokenizer.from_pretrained("o200k_base").encode_ordinary(text)
    return ids


def test_equal_blocks_give_equal_leading_text() -> None:
    book = PromptBook(2)
    one, same, other = _tokens(book, 1, (4, 8)), _tokens(book, 2, (4, 8)), _tokens(book, 3, (4, 9))
    assert one[:32] == same[:32]
    assert one[32:] != same[32:]  # the rest is the request's own
    assert one[:16] == other[:16]
    assert one[16:32] != other[16:32]


def test_a_block_is_cut_to_the_length_of_the_prompt() -> None:
    book = PromptBook(2)
    whole = _tokens(book, 1, (4, 8, 15), 48)
    for length in (1, 5, 16, 20, 32, 40, 47):
        assert _tokens(book, 2, (4, 8, 15), length) == whole[:length]


@pytest.mark.parametrize("above", [(), (0,)], ids=["first block", "second block"])
def test_different_blocks_give_different_text(above: tuple[int, ...]) -> None:
    book, length = PromptBook(0), 16 * (len(above) + 1)
    texts = {
        book.text(Arrival(0, 0.0, length, prefix_blocks=(*above, block), block_tokens=16)) for block in range(1, 5001)
    }
    assert len(texts) == 5000


# -- labels ----------------------------------------------------------------------------------------------


def test_what_nobody_labelled_is_about_its_own_words() -> None:
    """Equal prompts, and no others, want one answer."""
    book = PromptBook(0)
    arrivals = [Arrival(index, 0.0, 40) for index in range(50)]
    arrivals += [
        Arrival(100 + index, 0.0, length, prefix_blocks=(1, index % 3), block_tokens=16)
        for index in range(50)
        for length in (20, 32, 40)
    ]
    of_text: dict[str, set[str | None]] = {}
    for arrival in arrivals:
        of_text.setdefault(book.text(arrival), set()).add(ask_of(arrival).intent)
    assert 50 < len(of_text) < len(arrivals)
    assert all(len(intents) == 1 for intents in of_text.values())
    assert len({next(iter(intents)) for intents in of_text.values()}) == len(of_text)


def test_what_was_labelled_stays() -> None:
    named = Ask(messages=(), user="ann", intent="greeting")
    assert ask_of(Arrival(0, 0.0, 5, ask=named)) == named
    assert ask_of(Arrival(0, 0.0, 5, ask=Ask(messages=(), user="ann"))) == Ask((), user="ann", intent="prompt-0")
    said = (Said("system", 9, 5), Said("user", 1, 5))
    assert ask_of(Arrival(0, 0.0, 5, ask=Ask(said, tier="pro"))) == Ask(said, tier="pro", intent="said-1")
