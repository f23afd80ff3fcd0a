"""Forty attacks in every text that comes from outside: none becomes part of the page, all of them can be read on it."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from reports.page import render
from tests.reports.pages import Page, parse
from tests.reports.payloads import PAYLOADS
from tests.reports.whole import Text, whole

_NUM_ROTATIONS = 4


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


@pytest.mark.parametrize("rotation", range(_NUM_ROTATIONS))
def test_text_from_outside_stays_text(rotation: int, tmp_path: Path, plain: Page) -> None:
    first = rotation * len(PAYLOADS) // _NUM_ROTATIONS
    page = parse(render(*whole(tmp_path / "run", attacks(first))))
    assert _structure(page) == _structure(plain)


def test_every_attack_can_be_read(tmp_path: Path) -> None:
    page = parse(render(*whole(tmp_path / "run", attacks(0))))
    text = "".join(e.text for e in page.elements if e.tag in ("table", "h1", "p", "pre"))
    missing = [
        payload for payload in PAYLOADS if payload.replace("\x00", "\ufffd") not in text.replace("\x00", "\ufffd")
    ]
    assert missing == []


def test_a_figure_holds_no_markup_and_nothing_that_cannot_be_seen(tmp_path: Path) -> None:
    page = parse(render(*whole(tmp_path / "run", attacks(7))))
    data = [e.text for e in page.find("script") if e.attributes.get("type") == "application/json"]
    assert len(data) > 20
    for text in data:
        assert not set("<>&\x00\x1b\u2028\u2029\u202e\u2066\ufeff") & set(text)
        assert "\\u202e" not in text
        assert "\\u0000" not in text
        # Escaped for JSON and for plotly's own markup: a bracket that is left would be one in a label.
        assert "\\u003c" not in text
        assert "\\u003e" not in text


def test_there_are_forty_attacks_of_many_kinds() -> None:
    assert len(set(PAYLOADS)) == 40


def _structure(page: Page) -> list[tuple[str, tuple[tuple[str, str | None], ...]]]:
    """Every element with its attributes, but for the labels that name a table; the text between them is left out."""
    return [
        (e.tag, tuple(sorted((k, None if k == "aria-label" else v) for k, v in e.attributes.items())))
        for e in page.elements
    ]
