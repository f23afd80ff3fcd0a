"""Words, and what is usual for a property by the words in its name: a format, phrases, a range of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from re import compile as compile_regex
from typing import Final, TypeVar

__all__ = [
    "FORMAT_OF",
    "GIVEN",
    "HOSTS",
    "KEYS",
    "PHRASES_OF",
    "SENTENCES",
    "WORDS",
    "name_words",
    "singular",
    "usual_numbers",
]

_T = TypeVar("_T")

# fmt: off
WORDS: Final = (
    "morning", "meeting", "garden", "report", "river", "market", "window", "letter", "summer", "music",
    "season", "project", "answer", "picture", "village", "station", "harbor", "journey", "kitchen", "library",
    "mountain", "evening", "forest", "bridge", "teacher", "doctor", "weather", "planning", "budget", "review",
)
KEYS: Final = ("north", "south", "east", "west", "first", "second", "third", "total", "average", "other")
GIVEN: Final = (
    "Alice", "Bruno", "Carla", "David", "Elena", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kenji", "Laura",
    "Mateo", "Nadia", "Oscar", "Priya",
)
# fmt: on
HOSTS: Final = ("example.com", "example.org", "example.net", "docs.example.com", "shop.example.org")
SENTENCES: Final = (
    "The numbers agree with what was planned in the spring.",
    "Rain is expected in the afternoon, with light wind.",
    "The first option costs less and takes a day longer.",
    "Nothing else has to be changed before the review.",
    "Both sides are divided by the same factor.",
    "The meeting was moved to the following week.",
    "A short walk from the station leads to the market.",
    "The result follows from the two steps before it.",
)

_FAMILY: Final = ("Martin", "Silva", "Tanaka", "Okafor", "Jensen")
# fmt: off
_PLACES: Final = (
    "Paris", "Berlin", "Tokyo", "Lisbon", "Toronto", "Nairobi", "San Francisco", "Melbourne", "Oslo", "Lima",
)
# fmt: on
_STREETS: Final = ("12 Oak Street", "48 Market Street", "7 Harbor Road", "105 Garden Avenue", "31 Station Road")
_TITLES: Final = (
    "A quiet morning at the harbor",
    "Notes on the spring budget",
    "Planning the summer journey",
    "What the weather changed",
    "The library project, second draft",
    "Three answers for the review",
)


def _by_word(groups: Mapping[str, _T]) -> dict[str, _T]:
    return {word: usual for words, usual in groups.items() for word in words.split()}


FORMAT_OF: Final = _by_word(
    {
        "email mail": "email",
        "date birthday deadline day": "date",
        "time": "time",
        "timestamp datetime at": "date-time",
        "url uri link website href": "uri",
        "uuid guid id": "uuid",
        "ip": "ipv4",
        "host hostname domain": "hostname",
        "duration": "duration",
    }
)
_PHRASES: Final[dict[str, Sequence[str]]] = {
    "text explanation description reason reasoning summary content message body comment answer": SENTENCES,
    "title subject heading": _TITLES,
    "label": ("Continue", "Save changes", "Cancel", "Show details", "Send", "Try again"),
    "city location place destination origin": _PLACES,
    "country": ("France", "Japan", "Canada", "Portugal", "Kenya", "Peru", "Norway", "Australia"),
    "address street": _STREETS,
    "name": [f"{given} {family}" for given in GIVEN for family in _FAMILY],
    "participant person author user": GIVEN,
    "phone": [f"+1-202-555-01{number:02d}" for number in range(100)],  # the range that is kept free for fiction
    "zip": ("10115", "75004", "94103", "00187", "30301"),
    "currency": ("EUR", "USD", "JPY", "GBP", "CAD"),
    "language": ("English", "French", "Spanish", "German", "Japanese", "Portuguese"),
    "unit": ("celsius", "kilometers", "hours", "kilograms"),
    "color": ("red", "green", "blue", "amber", "violet", "gray"),
    "category": ("travel", "finance", "health", "education", "music", "sports"),
    "tag keyword": WORDS,
    "status": ("open", "in progress", "done", "waiting"),
    "query": ("weather this weekend", "train times tomorrow", "budget report spring", "library opening hours"),
    "expression": ("8x + 7 = -23", "8x = -30", "x = -30 / 8", "x = -3.75", "2(x + 1) = 10"),
    "output": ("8x = -30", "x = -3.75", "x = 4", "y = 2x + 1"),
    "code": ("return a + b", "print(total)", "items.sort()", "len(words) > 3"),
    "path": ("reports/spring.md", "notes/review.txt", "data/weather.csv", "images/harbor.png"),
    "file": ("spring.md", "review.txt", "weather.csv", "harbor.png"),
    "symbol": ("ACME", "GLBX", "INTR", "UMBR"),
}
PHRASES_OF: Final = _by_word(_PHRASES)
_USUAL: Final = _by_word(
    {
        "age": (18, 80),
        "year": (1990, 2030),
        "month": (1, 12),
        "day": (1, 28),
        "hour": (0, 23),
        "minute": (0, 59),
        "latitude lat": (-60, 70),
        "longitude lon": (-180, 180),
        "temperature": (-5, 35),
        "price amount cost": (5, 500),
        "confidence probability": (0, 1),
        "x y": (0, 1000),
        "count quantity": (1, 10),
        "limit": (1, 50),
    }
)

_WORD: Final = compile_regex(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def usual_numbers(name: str) -> tuple[int, int]:
    """The range of numbers usual for a property, by the words in its name, the last first."""
    return next((_USUAL[word] for word in reversed(name_words(name)) if word in _USUAL), (1, 100))


@lru_cache(4096)
def name_words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name[:100])]


def singular(name: str) -> str:
    return name[:-3] + "y" if name.endswith("ies") else name.removesuffix("s")
