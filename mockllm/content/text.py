"""What is said: plain English made of words that are one token each, the same for the same request.

Every word of the vocabulary, with the blank before it, is a single token in cl100k, o200k and Llama 3
(tests/mockllm/test_text.py asks the tokenizers), so that a client that counts again finds the number
of tokens that `usage` states.
"""

from __future__ import annotations

from functools import cache

from mockllm.streams import Streams

__all__ = ["Answer", "Speaker"]

_NOUNS = [
    "team",
    "report",
    "garden",
    "river",
    "market",
    "teacher",
    "student",
    "engineer",
    "doctor",
    "writer",
    "city",
    "village",
    "school",
    "hospital",
    "library",
    "station",
    "office",
    "project",
    "plan",
    "letter",
    "question",
    "answer",
    "problem",
    "method",
    "result",
    "reason",
    "example",
    "story",
    "picture",
    "window",
    "table",
    "road",
    "bridge",
    "harbor",
    "forest",
    "mountain",
    "field",
    "season",
    "winter",
    "summer",
    "morning",
    "evening",
    "company",
    "service",
    "system",
    "network",
    "server",
    "message",
    "signal",
    "engine",
    "machine",
    "model",
    "number",
    "measure",
    "budget",
    "price",
    "product",
    "customer",
    "partner",
    "neighbor",
    "meeting",
    "decision",
    "change",
    "history",
    "culture",
    "music",
    "science",
    "language",
    "weather",
    "water",
    "energy",
    "food",
    "paper",
    "book",
    "page",
    "chapter",
    "room",
    "house",
    "building",
    "street",
    "corner",
    "map",
    "journey",
    "ship",
    "train",
    "vehicle",
    "tool",
    "surface",
    "region",
    "policy",
    "value",
    "level",
    "order",
    "line",
    "group",
    "member",
    "family",
    "friend",
    "child",
    "parent",
    "guest",
    "visitor",
    "leader",
    "owner",
    "manager",
    "worker",
    "farmer",
    "driver",
    "artist",
]
_ADJECTIVES = [
    "small",
    "large",
    "new",
    "early",
    "clear",
    "simple",
    "careful",
    "quiet",
    "strong",
    "recent",
    "common",
    "local",
    "public",
    "main",
    "open",
    "short",
    "long",
    "warm",
    "cold",
    "bright",
    "heavy",
    "light",
    "final",
    "first",
    "second",
    "next",
    "regular",
    "steady",
    "useful",
    "fresh",
    "dark",
    "modern",
    "ancient",
    "gentle",
    "serious",
    "honest",
    "proper",
    "narrow",
    "wide",
    "deep",
    "broad",
    "rapid",
    "slow",
    "busy",
    "central",
    "global",
    "annual",
    "daily",
    "direct",
    "ordinary",
    "patient",
    "practical",
    "reliable",
    "separate",
    "similar",
    "typical",
]
_VERBS = [
    "reads",
    "explains",
    "describes",
    "follows",
    "supports",
    "improves",
    "changes",
    "checks",
    "protects",
    "reaches",
    "finds",
    "keeps",
    "builds",
    "opens",
    "crosses",
    "shows",
    "serves",
    "brings",
    "leaves",
    "moves",
    "joins",
    "covers",
    "guides",
    "helps",
    "needs",
    "offers",
    "prepares",
    "records",
    "repeats",
    "reports",
    "reviews",
    "sends",
    "shares",
    "studies",
    "teaches",
    "uses",
    "visits",
    "watches",
    "considers",
]
_ADVERBS = [
    "often",
    "slowly",
    "quickly",
    "usually",
    "rarely",
    "carefully",
    "clearly",
    "again",
    "together",
    "early",
    "daily",
    "finally",
    "gently",
    "quietly",
]
_PREPOSITIONS = [
    "near",
    "behind",
    "beside",
    "across",
    "above",
    "under",
    "before",
    "after",
    "during",
    "without",
    "within",
    "around",
    "through",
    "against",
    "toward",
]
_OPENINGS = ["The", "This", "Every", "Each"]
_LINKS = ["and", "but", "so", "because", "while"]

_NUM_SENTENCES = 700


class Answer:
    """The words of one answer: token i is the i-th of a long text, from the start of one of its sentences."""

    __slots__ = ("_start", "_tokens")

    def __init__(self, tokens: list[str], start: int) -> None:
        self._tokens, self._start = tokens, start

    def piece(self, first: int, num: int) -> str:
        """Tokens `first … first + num - 1` as text; the very first one has no blank before it."""
        tokens, size = self._tokens, len(self._tokens)
        begin = (self._start + first) % size
        text = "".join(tokens[begin : begin + num])
        left = num - (size - begin)
        while left > 0:  # around the end of the text, as often as it takes
            text += "".join(tokens[:left])
            left -= size
        return text[1:] if first == 0 else text


class Speaker:
    """Gives each request its answer, keyed like every other draw."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    def answer(self, key: str) -> Answer:
        tokens, starts = _text()
        return Answer(tokens, starts[self._streams.integer("answer text", key) % len(starts)])


@cache
def _text() -> tuple[list[str], list[int]]:
    """The tokens of the whole text and the positions at which its sentences start."""
    streams = Streams(0)
    tokens: list[str] = []
    starts: list[int] = []
    for number in range(_NUM_SENTENCES):
        starts.append(len(tokens))
        tokens += _sentence(streams, str(number))
    return tokens, starts


def _sentence(streams: Streams, key: str) -> list[str]:
    def pick(words: list[str], place: str) -> str:
        return words[streams.integer(place, key) % len(words)]

    words = [
        pick(_OPENINGS, "opening"),
        pick(_ADJECTIVES, "adjective"),
        pick(_NOUNS, "subject"),
        pick(_VERBS, "verb"),
    ]
    words += [
        "the",
        pick(_ADJECTIVES, "quality"),
        pick(_NOUNS, "object"),
        pick(_PREPOSITIONS, "where"),
        "the",
        pick(_NOUNS, "place"),
    ]
    if streams.integer("long", key) % 2:
        words += [
            pick(_LINKS, "link"),
            "the",
            pick(_NOUNS, "other"),
            pick(_ADVERBS, "adverb"),
            pick(_VERBS, "then"),
            "a",
            pick(_NOUNS, "thing"),
        ]
    return [" " + word for word in words] + ["."]
