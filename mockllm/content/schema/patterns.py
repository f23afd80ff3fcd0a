"""Texts that match a regular expression, written along Python's parse of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib import import_module
from itertools import chain, repeat
from re import DOTALL, Match
from re import compile as compile_regex
from re import error as regex_error
from re import escape as regex_escape
from typing import Any, Final

from mockllm.content.schema.draws import Draws
from mockllm.content.schema.errors import MAX_LENGTH

__all__ = ["matching"]

_PARSER: Final[Any] = import_module("re._parser")  # no public parser gives the tree of a pattern
_ECMA: Final = compile_regex(
    r"\\[pP]\{(\w\w?)[^}]*\}|\\u\{([0-9a-fA-F]{1,6})\}|\(\?<(\w+)>|\\c([A-Za-z])|\\.|[\[\]]|[&~|]|--",
    DOTALL,
)
_CATEGORIES: Final = {"L": "a-zA-Z", "Lu": "A-Z", "Ll": "a-z", "N": "0-9", "P": "!-.", "Z": " ", "S": "+<>="}
_PRINTABLE: Final = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ -_.,:;!?+*/=@#%&()[]{}<>'\"\n\t"
_KNOWN: Final = {
    "CATEGORY_DIGIT": "0123456789",
    "CATEGORY_WORD": "abcdefghijklmnopqrstuvwxyz0123456789_",
    "CATEGORY_SPACE": " ",
}


def matching(pattern: str, draws: Draws, length: tuple[int, float], spend: Callable[[float], None]) -> str | None:
    """A text that holds a match of the pattern and has an allowed length; None when none was found.

    A pattern need not be anchored, and lookaround is not followed: the caller checks the text.
    """
    tree = _tree(pattern)
    if tree is None:
        return None
    low, high = length
    for full in (False, True):  # every repetition as often as the others, or each by a draw
        few, many, more = -1, None, 6
        while few < more and more != many:
            writer = _Writer(draws.at(f"{more}{full}"), more, full)
            text = writer.write(tree)
            spend(writer.num_steps / 4)
            if text is not None and len(text) < low and not ("^" in pattern or "$" in pattern):
                text += "x" * (low - len(text))
            if text is not None and low <= len(text) <= high:
                return text
            if text is None or len(text) > high:
                many, more = more, (few + more) // 2
            elif many is None:
                if few >= 0:
                    break  # repeating more often did not help
                few, more = more, more + low - len(text)
            else:
                few, more = more, (more + many) // 2
    return None


@lru_cache(256)
def _tree(pattern: str) -> Any:
    """Python's parse of an ECMA pattern; None for what it cannot say and for deep nesting."""
    if len(pattern) > 4_000 or pattern.count("(") > 40:
        return None
    try:
        return _PARSER.parse(_in_python(pattern))
    except (regex_error, OverflowError):
        return None


def _in_python(pattern: str) -> str:
    """The pattern in Python's syntax, as far as the two differ."""
    inside = False

    def translated(found: Match[str]) -> str:
        nonlocal inside
        category, point, group, control = found.groups()
        text = found[0]
        if category:
            letters = _CATEGORIES.get(category) or _CATEGORIES.get(category[0], "a-z") if text[1] == "p" else "0-9 "
            return letters if inside else f"[{letters}]"
        if text in "[]":
            nested, inside = inside, text == "["
            return "\\[" if nested and inside else text
        if text[0] in "&~|-":  # doubled in a class they warn of a meaning to come
            return f"\\{text}" if inside else text
        if point or control:
            return regex_escape(chr(int(point, 16) if point else ord(control) % 32))
        if group:
            return f"(?P<{group}>"
        return text if text[1].isalnum() else regex_escape(text[1])

    return _ECMA.sub(translated, pattern)


class _Writer:
    """Writes one text along the tree of a pattern; it repeats at most (`full`: always) `more` times beyond the least."""

    def __init__(self, draws: Draws, more: int, full: bool) -> None:
        self.draws, self.more, self.full = draws, more, full
        self.num_steps = 0
        self.groups: dict[int, str] = {}

    def write(self, tree: Iterable[tuple[Any, Any]]) -> str | None:
        """The text; None when it would be too long to be of use."""
        parts = []
        for operation, argument in tree:
            self.num_steps += 1
            if self.num_steps > 2 * MAX_LENGTH:
                return None
            part = self._piece(str(operation), argument)
            if part is None:
                return None
            parts.append(part)
        return "".join(parts)

    def _piece(self, operation: str, argument: Any) -> str | None:
        match operation:
            case "LITERAL":
                return chr(argument)
            case "NOT_LITERAL" | "ANY" | "IN":
                return self._letter(operation, argument)
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                return self._repeated(*argument)
            case "BRANCH":
                return self.write(argument[1][self._index(len(argument[1]))])
            case "SUBPATTERN":
                return self._group(argument[0], argument[3])
            case "ATOMIC_GROUP":
                return self.write(argument)
            case "GROUPREF":
                return self.groups.get(argument, "")
            case _:  # anchors and lookaround have no text of their own
                return ""

    def _index(self, num: int) -> int:
        return self.draws.index(num, f"pattern {self.num_steps}")

    def _group(self, number: int | None, tree: Any) -> str | None:
        text = self.write(tree)
        if number is not None and text is not None:
            self.groups[number] = text
        return text

    def _repeated(self, low: int, high: Any, tree: Any) -> str | None:
        most = min(int(high), low + self.more)
        num = most if self.full else low + self._index(most - low + 1)
        return self.write(chain.from_iterable(repeat(tree, num)))

    def _letter(self, operation: str, argument: Any) -> str:
        if operation == "ANY":
            return _PRINTABLE[self._index(26)]
        if operation == "NOT_LITERAL":
            letters = [letter for letter in _PRINTABLE[:62] if ord(letter) != argument]
            return letters[self._index(len(letters))]
        ranges = _ranges(tuple(argument))
        part = ranges[self._index(len(ranges))]
        place = self.draws.index(len(part), f"letter {self.num_steps}")
        if isinstance(part, str):
            return part[place]
        letter = part[place]
        return chr(part[0] if 0xD800 <= letter <= 0xDFFF else letter)  # half a pair is no letter


@lru_cache(1024)
def _ranges(members: tuple[tuple[Any, Any], ...]) -> list[range | str]:
    """The letters of a character class."""
    ranges = [_letters(str(kind), value) for kind, value in members if str(kind) != "NEGATE"]
    if str(members[0][0]) != "NEGATE":
        return ranges
    left = [letter for letter in _PRINTABLE if not any(_within(letter, part) for part in ranges)]
    return ["".join(left[:26]) or "\u00e9"]


def _letters(kind: str, value: Any) -> range | str:
    """The letters of one member of a character class."""
    if kind == "LITERAL":
        return range(value, value + 1)
    if kind == "RANGE":
        return range(value[0], value[1] + 1)
    name = str(value)
    if name in _KNOWN:
        return _KNOWN[name]
    without = _KNOWN.get(name.replace("_NOT_", "_"), "")
    return "".join(letter for letter in _PRINTABLE if letter.lower() not in without and not letter.isspace())


def _within(letter: str, part: range | str) -> bool:
    return letter in part if isinstance(part, str) else ord(letter) in part
