"""What is asked: English sentences, exactly as many tokens as the plan says, different for every request.

A prompt reads like `Review late customer order before the local meeting. If the budget report is complex, ...`. Every word
of the vocabulary with the blank before it is one token in cl100k, o200k and Llama 3, so is every mark, and so is each
opening word without a blank (tests/harness/test_prompts.py asks the tokenizers). The words of the first sentence spell
the request's number, so that no two prompts of a plan share a cached prefix by accident; prompts that are to share one name
the same prefix blocks. The rest is a piece of one long text, which is made once. That text is about everything, so a static
embedder finds any two of its pieces near each other once they have some hundred tokens, and a semantic cache answers wrongly:
give it questions (`questions.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import accumulate, count
from math import gcd, prod
from typing import NamedTuple, TypeVar

from harness.asks import Ask, Said
from harness.plan import Arrival
from harness.streams import keyed_integer, salted
from harness.workloads.vocabulary import ADJECTIVES, JOINTS, NOUNS, WHENS, words

__all__ = ["PromptBook", "ask_of"]

_OPENINGS = words("Review Consider Compare Describe List Find Check Read Change Update Release Show")
_ADJECTIVES = [*ADJECTIVES, *words("early good better best weak closed clear quick slow")]
_PLACES = [*WHENS, *JOINTS, *words("near under over across through into from")]
_VERBS = words(
    "review compare explain describe find check write read plan report answer change update release support test"
)
_HELPERS = words("can could will would should may might must")
_KINDS = {"A": _ADJECTIVES, "N": NOUNS, "P": _PLACES, "V": _VERBS, "H": _HELPERS}
_WORDS = {kind: [f" {word}" for word in of_kind] for kind, of_kind in _KINDS.items()}
_MARKS = frozenset(".,?")
_HEAD = [_ADJECTIVES, NOUNS, NOUNS, WHENS + JOINTS, ["the"], _ADJECTIVES, NOUNS]  # what spells a number
_NUM_HEADS = prod(map(len, _HEAD))  # 15 thousand million
_NUM_HEAD_TOKENS = len(_HEAD) + 2  # with the opening and the full stop
_SENTENCES = [  # capitals stand for kinds of words
    [word if word in _WORDS or word in _MARKS or word[0].isupper() else f" {word}" for word in sentence.split()]
    for sentence in (
        "The A N H V the A N P the N .",
        "The N of this N was A , but the N H not V it .",
        "Before the N N , please V the A N and the A N .",
        "Please V how the N N H V the A N .",
        "If the N is A , the N and the N H V the N of the A N .",
        "What is the A N of the N N ?",
        "How H the N V the A N P the N ?",
        "Each A N was A because the N could not V the N .",
        "Some of the N N H V another N , so the N is often A .",
        "When the A N is P the N , many of the A N H again V the N .",
    )
]
_PARAGRAPH = 5  # sentences
_BOOK_TOKENS = 1 << 15
_CLOSING = " today."
_MANY = 100_000_000  # more than a plan has arrivals
_NOBODY = Ask(messages=())

T = TypeVar("T")


class _Book(NamedTuple):
    """A long text of whole sentences: where each of its tokens begins (and the last one ends), which are marks, and which
    begin a sentence after a blank."""

    text: str
    offsets: list[int]
    is_mark: list[bool]
    sentences: list[int]


class PromptBook:
    """Prompts by arrival, the same for the same seed and salt. Books of two salts share no text: no cache knows the one
    from the other."""

    def __init__(self, seed: int, salt: str = "") -> None:
        self._seed = salted(seed, salt)
        self._offsets = {what: keyed_integer(self._seed, "label", what) for what in ("prompt", "block", "said")}
        self._stride = keyed_integer(self._seed, "stride", "", size=4)
        while gcd(self._stride, _NUM_HEADS) != 1:  # so that no two numbers have one head
            self._stride += 1

    def text(self, arrival: Arrival) -> str:
        """The prompt of an arrival: so many tokens of text that it has `num_prompt_tokens` with what is attached."""
        pieces, left = [], arrival.num_prompt_tokens - (arrival.ask.num_attached_tokens if arrival.ask else 0)
        for block in arrival.prefix_blocks:  # equal ids, equal text; the last block is cut to the prompt's length
            size = min(left, arrival.block_tokens)
            pieces.append(self._written("block", block, str(block), size, ends=False))
            left -= size
        if left:
            number = arrival.index + arrival.turn * _MANY
            pieces.append(self._written("prompt", number, arrival.key, left, ends=True))
        return "".join(pieces)[1:]

    def messages(self, arrival: Arrival) -> list[tuple[str, str]]:
        """The messages of an arrival, as (role, text)."""
        if arrival.ask is None or not arrival.ask.messages:
            return [("user", self.text(arrival))]
        return [(said.role, self.said(said)) for said in arrival.ask.messages]

    def said(self, said: Said) -> str:
        """The words of one message: its own, or so many of the book that its name stands for."""
        if said.text is not None:
            return said.text
        return self._written("said", said.name, str(said.name), said.num_tokens, ends=True)[1:]

    def _written(self, what: str, number: int, key: str, num_tokens: int, *, ends: bool) -> str:
        """`num_tokens` tokens after a blank. `ends`: the last sentence is brought to an end, if there is room for two."""
        dice = keyed_integer(self._seed, what, key)
        dice, opening = divmod(dice, len(_OPENINGS))
        head = [_OPENINGS[opening], *self._spelled(number * self._stride + self._offsets[what])]
        if num_tokens < _NUM_HEAD_TOKENS:
            return "".join(f" {word}" for word in head[:num_tokens])
        beginning, left = " " + " ".join(head), num_tokens - _NUM_HEAD_TOKENS
        start = self._book.sentences[dice % len(self._book.sentences)]
        if not ends or not left:
            return f"{beginning}.{self._run(start, left)}"
        return beginning + (_CLOSING if left == 1 else "." + self._ended(start, left))

    def _spelled(self, number: int) -> list[str]:
        """A number in the words of a head, its lowest digit first."""
        spelled = []
        for choices in _HEAD:
            number, digit = divmod(number, len(choices))
            spelled.append(choices[digit])
        return spelled

    def _ended(self, start: int, num_tokens: int) -> str:
        """Two tokens or more from `start`, the last of them a full stop."""
        before = (start + num_tokens - 2) % len(self._book.is_mark)
        if self._book.is_mark[before]:  # no mark after a mark
            return self._run(start, num_tokens - 2) + _CLOSING
        return self._run(start, num_tokens - 1) + "."

    def _run(self, start: int, num_tokens: int) -> str:
        """`num_tokens` tokens of the book from token `start`, and again from its beginning."""
        text, offsets = self._book.text, self._book.offsets
        pieces = []
        while num_tokens > 0:
            end = min(start + num_tokens, len(offsets) - 1)
            pieces.append(text[offsets[start] : offsets[end]])
            num_tokens, start = num_tokens - (end - start), 0
        return "".join(pieces)

    @cached_property
    def _book(self) -> _Book:
        state = keyed_integer(self._seed, "book", "") | 1

        def one_of(choices: Sequence[T]) -> T:
            nonlocal state
            state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)  # Knuth's MMIX generator
            return choices[(state >> 33) % len(choices)]

        tokens: list[str] = []
        sentences: list[int] = []
        for num in count():
            if len(tokens) >= _BOOK_TOKENS:
                break
            first, *others = one_of(_SENTENCES)
            if num and num % _PARAGRAPH == 0:
                tokens[-1] += "\n\n"
                tokens.append(first)
            else:
                sentences.append(len(tokens))
                tokens.append(f" {first}")
            tokens += [one_of(_WORDS[word]) if word in _WORDS else word for word in others]
        offsets = [0, *accumulate(map(len, tokens))]
        return _Book("".join(tokens), offsets, [token.strip() in _MARKS for token in tokens], sentences)


def ask_of(arrival: Arrival) -> Ask:
    """Who asks what. Where the plan does not say what it is about, equal words want one answer, and others another."""
    ask = arrival.ask or _NOBODY
    if ask.intent is not None:
        return ask
    if ask.messages:
        return replace(ask, intent=f"said-{ask.messages[-1].name}")
    num_shared = len(arrival.prefix_blocks) * arrival.block_tokens
    if num_shared < arrival.num_prompt_tokens:
        return replace(ask, intent=f"prompt-{arrival.key}")
    blocks = f"{arrival.num_prompt_tokens} {arrival.prefix_blocks}"
    return replace(ask, intent=f"blocks-{keyed_integer(0, 'intent', blocks)}")
