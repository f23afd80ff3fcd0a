"""What is asked: English words, exactly as many tokens as the plan says, different for every request.

Every word of the vocabulary with the blank before it is one token in cl100k, o200k and Llama 3, and so is
each opening word without one (tests/harness/test_prompts.py asks the tokenizers). The words after the opening
spell the request's number, so that no two prompts of a plan share a cached prefix by accident; prompts that
are to share one name the same prefix blocks.
"""

from __future__ import annotations

from functools import cached_property

from harness.asks import Said
from harness.plan import Arrival
from harness.streams import keyed_integer

__all__ = ["PromptBook"]

_OPENINGS = [
    "Please",
    "Review",
    "Consider",
    "Compare",
    "Describe",
    "List",
    "Find",
    "Check",
    "Write",
    "Read",
    "Given",
    "After",
    "Before",
    "Using",
    "For",
    "The",
    "This",
    "Each",
    "How",
    "What",
    "Why",
    "When",
    "Tell",
    "Show",
]
_WORDS = [
    "please",
    "review",
    "consider",
    "compare",
    "explain",
    "describe",
    "summarize",
    "list",
    "find",
    "check",
    "write",
    "read",
    "plan",
    "report",
    "answer",
    "customer",
    "order",
    "invoice",
    "account",
    "payment",
    "delivery",
    "contract",
    "meeting",
    "schedule",
    "budget",
    "market",
    "price",
    "team",
    "office",
    "project",
    "client",
    "supplier",
    "product",
    "service",
    "quality",
    "support",
    "issue",
    "ticket",
    "email",
    "message",
    "policy",
    "rule",
    "process",
    "system",
    "server",
    "database",
    "table",
    "column",
    "query",
    "index",
    "cache",
    "log",
    "error",
    "test",
    "release",
    "version",
    "update",
    "change",
    "request",
    "response",
    "user",
    "group",
    "access",
    "security",
    "risk",
    "audit",
    "law",
    "court",
    "judge",
    "health",
    "patient",
    "doctor",
    "hospital",
    "medicine",
    "study",
    "research",
    "paper",
    "result",
    "method",
    "sample",
    "data",
    "chart",
    "graph",
    "model",
    "number",
    "value",
    "rate",
    "cost",
    "profit",
    "loss",
    "growth",
    "share",
    "bank",
    "loan",
    "credit",
    "insurance",
    "tax",
    "travel",
    "flight",
    "hotel",
    "city",
    "country",
    "river",
    "mountain",
    "road",
    "bridge",
    "station",
    "train",
    "bus",
    "car",
    "engine",
    "machine",
    "factory",
    "tool",
    "material",
    "steel",
    "wood",
    "glass",
    "water",
    "energy",
    "power",
    "light",
    "heat",
    "air",
    "weather",
    "rain",
    "snow",
    "wind",
    "season",
    "spring",
    "summer",
    "autumn",
    "winter",
    "garden",
    "farm",
    "food",
    "bread",
    "rice",
    "fruit",
    "kitchen",
    "restaurant",
    "school",
    "teacher",
    "student",
    "class",
    "lesson",
    "book",
    "chapter",
    "page",
    "story",
    "history",
    "culture",
    "music",
    "film",
    "art",
    "museum",
    "photo",
    "game",
    "sport",
    "player",
    "coach",
    "match",
    "league",
    "family",
    "mother",
    "father",
    "child",
    "friend",
    "neighbor",
    "house",
    "room",
    "window",
    "door",
    "wall",
    "floor",
    "roof",
    "the",
    "a",
    "this",
    "that",
    "each",
    "every",
    "some",
    "many",
    "few",
    "more",
    "most",
    "other",
    "another",
    "first",
    "second",
    "third",
    "last",
    "next",
    "early",
    "late",
    "new",
    "old",
    "good",
    "better",
    "best",
    "large",
    "small",
    "long",
    "short",
    "high",
    "low",
    "strong",
    "weak",
    "open",
    "closed",
    "simple",
    "complex",
    "clear",
    "quick",
    "slow",
    "recent",
    "modern",
    "common",
    "special",
    "local",
    "global",
    "public",
    "private",
    "and",
    "or",
    "but",
    "so",
    "because",
    "while",
    "although",
    "if",
    "when",
    "where",
    "who",
    "how",
    "why",
    "what",
    "which",
    "before",
    "after",
    "during",
    "between",
    "among",
    "under",
    "over",
    "near",
    "across",
    "through",
    "about",
    "against",
    "into",
    "from",
    "with",
    "without",
    "for",
    "of",
    "to",
    "in",
    "on",
    "at",
    "by",
    "is",
    "was",
    "are",
    "were",
    "has",
    "have",
    "had",
    "can",
    "could",
    "will",
    "would",
    "should",
    "may",
    "might",
    "must",
    "does",
    "did",
    "not",
    "also",
    "often",
    "always",
    "never",
    "usually",
    "sometimes",
    "again",
    "already",
    "still",
    "almost",
    "enough",
    "only",
    "even",
    "just",
    "very",
    "quite",
    "really",
    "together",
    "instead",
    "however",
    "therefore",
]

_BOOK_WORDS = 1 << 15
_STEP = 7919  # a prime: walks the vocabulary without short cycles


class PromptBook:
    """Prompts by arrival, the same for the same seed and salt. Books of two salts share no text: no cache knows the one
    from the other."""

    def __init__(self, seed: int, salt: str = "") -> None:
        self._seed = keyed_integer(seed, "salt", salt) if salt else seed

    def text(self, arrival: Arrival) -> str:
        """The prompt of an arrival: `num_prompt_tokens` tokens of text."""
        if arrival.prefix_blocks:
            return self._blocks(arrival)
        return self._unique(arrival.index, arrival.num_prompt_tokens)

    def messages(self, arrival: Arrival) -> list[tuple[str, str]]:
        """The messages of an arrival, as (role, text)."""
        if arrival.ask is None:
            return [("user", self.text(arrival))]
        return [(said.role, self.said(said)) for said in arrival.ask.messages]

    def said(self, said: Said) -> str:
        """The words of one message: its own, or so many of the book that its name stands for."""
        if said.text is not None:
            return said.text
        opening = _OPENINGS[said.name % len(_OPENINGS)]
        return opening + self._labelled(said.name, "said", str(said.name), said.num_tokens - 1)

    def _unique(self, number: int, num_tokens: int) -> str:
        opening = _OPENINGS[keyed_integer(self._seed, "opening", str(number)) % len(_OPENINGS)]
        label = number + keyed_integer(self._seed, "label", "") % 1_000_000
        return opening + self._labelled(label, "prompt", str(number), num_tokens - 1)

    def _blocks(self, arrival: Arrival) -> str:
        """Equal block ids give equal text; the last block is cut to the prompt's length."""
        opening = _OPENINGS[arrival.prefix_blocks[0] % len(_OPENINGS)]
        pieces, left = [opening], arrival.num_prompt_tokens - 1
        for place, block in enumerate(arrival.prefix_blocks):
            size = min(left, arrival.block_tokens - (place == 0))
            pieces.append(self._labelled(block, "block", str(block), size))
            left -= size
        if left:
            pieces.append(self._labelled(arrival.index, "prompt", str(arrival.index), left))
        return "".join(pieces)

    def _labelled(self, number: int, purpose: str, key: str, num_tokens: int) -> str:
        """Text that begins with the number spelled in words, so that no two numbers begin alike."""
        label = [f" {_WORDS[digit]}" for digit in _digits(number)][:num_tokens]
        start = keyed_integer(self._seed, purpose, key) % _BOOK_WORDS
        return "".join(label) + self._run(start, num_tokens - len(label))

    def _run(self, start: int, num_words: int) -> str:
        """`num_words` words of the book from word `start`, each with its blank."""
        text, offsets = self._book
        pieces = []
        while num_words > 0:
            num = min(num_words, _BOOK_WORDS - start)
            pieces.append(text[offsets[start] : offsets[start + num]])
            num_words, start = num_words - num, 0
        return "".join(pieces)

    @cached_property
    def _book(self) -> tuple[str, list[int]]:
        """A long text and the offset of each of its words, made once."""
        step = keyed_integer(self._seed, "book", "") | 1
        words, offsets, size, state = [], [0], 0, step
        for _ in range(_BOOK_WORDS):
            state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)  # Knuth's MMIX generator
            words.append(" " + _WORDS[(state >> 33) % len(_WORDS)])
            size += len(words[-1])
            offsets.append(size)
        return "".join(words), offsets


def _digits(number: int) -> list[int]:
    """The number in base len(_WORDS), lowest digit first, three digits."""
    digits = []
    for _ in range(3):
        number, digit = divmod(number, len(_WORDS))
        digits.append((digit * _STEP) % len(_WORDS))
    return digits
