"""Texts: phrases for a property by its name, and the formats."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

from mockllm.content.schema.draws import Draws
from mockllm.content.schema.words import FORMAT_OF, GIVEN, HOSTS, PHRASES_OF, SENTENCES, WORDS, name_words

__all__ = ["FORMATS", "fitted", "said"]


def fitted(text: str, draws: Draws, low: int, high: float) -> str:
    """The text, continued to `low` characters or cut to `high`."""
    if len(text) < low:
        parts = [text]
        num = len(text)
        while num < low:
            parts.append(WORDS[draws.at(len(parts)).index(len(WORDS), "word")])
            num += 1 + len(parts[-1])
        text = " ".join(parts)
    if len(text) <= high:
        return text
    text = text[: int(high)]
    whole_words = text.rpartition(" ")[0]
    return whole_words if len(whole_words) >= max(low, 1) else text


def said(name: str, draws: Draws) -> str:
    """A phrase for a property by the words in its name, the last first: `home_city` is a city."""
    words = name_words(name)
    for word in reversed(words):
        if word in FORMAT_OF:
            return FORMATS[FORMAT_OF[word]](draws, 0, inf)
        if word in PHRASES_OF:
            return PHRASES_OF[word][draws.index(len(PHRASES_OF[word]), "phrase")]
    phrase = SENTENCES[draws.index(len(SENTENCES), "phrase")]
    if words and 4 <= len(name) <= 40:
        return f"{' '.join(words).capitalize()}: {phrase[0].lower()}{phrase[1:]}"
    return phrase


def _digits(draws: Draws, what: str, num: int) -> str:
    return f"{draws.index(10**num, what):0{num}d}"


def _date(draws: Draws, low: int, high: float) -> str:
    day = draws.index(3 * 12 * 28, "date")
    return f"{2024 + day // 336}-{1 + day // 28 % 12:02d}-{1 + day % 28:02d}"


def _time(draws: Draws, low: int, high: float) -> str:
    quarter = draws.index(24 * 4, "time")
    return f"{quarter // 4:02d}:{quarter % 4 * 15:02d}:00" + ("Z" if high < 14 or low <= 9 else "+00:00")


def _date_time(draws: Draws, low: int, high: float) -> str:
    fraction = "." + "0" * min(max(low - 21, 1), 9) if low > 20 else ""
    return f"{_date(draws, 0, inf)}T{_time(draws, 0, inf)[:8]}{fraction}Z"


def _duration(draws: Draws, low: int, high: float) -> str:
    minutes = 5 + 5 * draws.index(40, "duration")
    return f"PT{minutes}M" if high >= 6 else f"P{1 + minutes % 9}D"


def _hostname(draws: Draws, low: int, high: float) -> str:
    host = f"{WORDS[draws.index(len(WORDS), 'host')]}.example.com"
    labels = max(0, low - len(host)) // 40
    host = "".join(f"{'abcd'[number % 4] * 39}." for number in range(labels)) + host
    return "w" * (low - len(host) - 1) + "." + host if low > len(host) + 1 else host if len(host) <= high else "a.io"


def _email(draws: Draws, low: int, high: float) -> str:
    given, host = GIVEN[draws.index(len(GIVEN), "given")].lower(), HOSTS[draws.index(len(HOSTS), "host")]
    local = given if low <= len(given) + 1 + len(host) else f"{given}.{_digits(draws, 'local', 6)}"
    text = f"{local}@{host}"
    if len(text) < low:
        text = f"{local}@{_hostname(draws, low - len(local) - 1, inf)}"
    return text if len(text) <= high else f"{given[0]}@a.io"


def _uri(draws: Draws, low: int, high: float) -> str:
    word = WORDS[draws.index(len(WORDS), "path")]
    text = f"https://{HOSTS[draws.index(len(HOSTS), 'host')]}/{word}-{_digits(draws, 'page', 3)}"
    return text + "x" * (low - len(text)) if len(text) <= high else f"http://{word[:1]}.io"


def _uuid(draws: Draws, low: int, high: float) -> str:
    text = f"{draws.index(2**64, 'uuid'):016x}{draws.index(2**60, 'uuid tail'):015x}"
    return f"{text[:8]}-{text[8:12]}-4{text[12:15]}-{'89ab'[draws.index(4, 'variant')]}{text[15:18]}-{text[18:30]}"


def _ipv4(draws: Draws, low: int, high: float) -> str:
    number = draws.index(2**16, "ipv4")
    return f"192.0.2.{1 + number % 254}" if high >= 11 else f"10.0.0.{1 + number % 9}"  # 192.0.2.0/24: RFC 5737


def _ipv6(draws: Draws, low: int, high: float) -> str:
    number = 1 + draws.index(2**15, "ipv6")
    return f"2001:db8::{number:x}" if low <= 15 else f"2001:0db8:0000:0000:0000:0000:0000:{number:04x}"  # RFC 3849


def _pointer(draws: Draws, low: int, high: float) -> str:
    return f"/items/{draws.index(10, 'pointer')}" + "0" * (low - 8)


FORMATS: Final[dict[str, Callable[[Draws, int, float], str]]] = {
    "date": _date,
    "date-time": _date_time,
    "time": _time,
    "duration": _duration,
    "email": _email,
    "idn-email": _email,
    "hostname": _hostname,
    "idn-hostname": _hostname,
    "uri": _uri,
    "uri-reference": _uri,
    "iri": _uri,
    "iri-reference": _uri,
    "uri-template": _uri,
    "uuid": _uuid,
    "ipv4": _ipv4,
    "ipv6": _ipv6,
    "json-pointer": _pointer,
    "relative-json-pointer": lambda draws, low, high: str(draws.index(10, "pointer")),
    "regex": lambda draws, low, high: f"^[a-z]{{{1 + draws.index(9, 'regex')}}}$",
}
