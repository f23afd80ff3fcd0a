"""Forty attacks in every text that comes from outside: none becomes part of the page, all of them can be read on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count

import pytest

from reports.look import plain as plain_label
from reports.page import render
from tests.reports.pages import Page, parse
from tests.reports.payloads import PAYLOADS
from tests.reports.whole import Text, whole

_NUM_ROTATIONS = 3


def attacks(first: int) -> Text:
    """A payload for every text that is asked for, in turn, with a number that makes it one of a kind. Keys of one kind keep it."""
    numbers, given = count(first), dict[str, str]()

    def text(what: str) -> str:
        if what in ("error kind", "error"):  # one class of errors, as in the plain run
            return given.setdefault(what, PAYLOADS[(first + len(what)) % len(PAYLOADS)])
        number = next(numbers)
        return f"{PAYLOADS[number % len(PAYLOADS)]} {number}"

    return text


def _plain(first: int = 0) -> Text:
    numbers = count(first)
    return lambda what: what if what in ("error kind", "error") else f"{what} {next(numbers)}"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return parse(render(*whole(tmp_path_factory.mktemp("plain") / "run", _plain())))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> list[Page]:
    """Pages on which every place has another attack each time."""
    folder = tmp_path_factory.mktemp("hostile")
    firsts = [rotation * len(PAYLOADS) // _NUM_ROTATIONS for rotation in range(_NUM_ROTATIONS)]
    return [parse(render(*whole(folder / str(first), attacks(first)))) for first in firsts]


def test_text_from_outside_stays_text(plain: Page, hostile: list[Page]) -> None:
    for page in hostile:
        assert _structure(page) == _structure(plain)


def test_every_attack_can_be_read(hostile: list[Page]) -> None:
    text = "".join(e.text for e in hostile[0].elements if e.tag in ("table", "h1", "p", "pre"))
    missing = [each for each in PAYLOADS if each.replace("\x00", "\ufffd") not in text.replace("\x00", "\ufffd")]
    assert missing == []


def test_a_figure_holds_no_markup(hostile: list[Page]) -> None:
    data = [e.text for page in hostile for e in page.find("script") if e.attributes.get("type") == "application/json"]
    assert len(data) > 20 * _NUM_ROTATIONS
    for text in data:
        assert not set("<>&\x00\x1b\u2028\u2029\u202e\u2066\ufeff") & set(text)
        # Escaped for JSON and for plotly's own markup: a bracket that is left once it is read would be one in a label.
        assert not [each for each in _strings(json.loads(text)) if set("<>\u202e\u2066\x00") & set(each)]


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)


def test_there_are_forty_attacks_of_many_kinds() -> None:
    assert len(set(PAYLOADS)) == 40


def _structure(page: Page) -> list[tuple[str, tuple[tuple[str, str | None], ...]]]:
    """Every element with its attributes, but for the labels that name a table; the text between them is left out."""
    return [
        (e.tag, tuple(sorted((k, None if k == "aria-label" else v) for k, v in e.attributes.items())))
        for e in page.elements
    ]


def test_a_label_of_a_figure_is_plain() -> None:
    assert plain_label("a\x00b\u202ec\u200bd\n<b>&") == "a\ufffdb\ufffdc\ufffdd\ufffd&lt;b&gt;&amp;"
    assert plain_label("é–漢 ü") == "é–漢 ü"
    assert plain_label("<" * 100) == "&lt;" * 60
