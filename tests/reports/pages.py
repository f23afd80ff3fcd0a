"""A page as the tests read it: by a parser that knows nothing of how the page was made."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

_VOID = {"meta", "img", "br", "hr", "input", "link", "base"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    path: tuple[str, ...]
    text: str = ""


@dataclass
class Page(HTMLParser):
    """Every element with its attributes, the names of those around it, and all the text within."""

    elements: list[Element] = field(default_factory=list)
    _open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs), tuple(outer.tag for outer in self._open))
        self.elements.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def find(self, tag: str, **attributes: str) -> list[Element]:
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [e for e in self.elements if e.tag == tag and wanted.items() <= e.attributes.items()]

    def only(self, tag: str, **attributes: str) -> Element:
        (found,) = self.find(tag, **attributes)
        return found

    def tables(self) -> dict[str, list[list[str]]]:
        """Rows of cells, head included, by caption."""
        tables: dict[str, list[list[str]]] = {}
        rows: list[list[str]] = []
        for element in self.elements:
            if element.tag == "caption":
                rows = tables[element.text] = []
            elif element.tag == "tr":
                rows.append([])
            elif element.tag in ("td", "th"):
                rows[-1].append(element.text)
            elif element.tag == "small":
                rows[-1][-1] = rows[-1][-1].removesuffix(element.text)
        return tables

    def notes(self, caption: str, name: str) -> dict[str, str]:
        """What stands in small letters in the row of a table that begins with `name`, by column; "" where nothing does."""
        head, inside, found, text = self.tables()[caption][0], False, [], ""
        for element in self.elements:
            if element.tag == "caption":
                inside = element.text == caption
            elif inside and element.tag == "tr":
                text = ""
            elif inside and element.tag in ("td", "th"):
                text = text or element.text
                if text == name or text.startswith(name):
                    found.append("")
            elif inside and element.tag == "small" and found:
                found[-1] = element.text
        return dict(zip(head, found, strict=False))

    def row(self, caption: str, name: str) -> dict[str, str]:
        """The row of a table that begins with `name`, by column."""
        head, *rows = self.tables()[caption]
        (row,) = [row for row in rows if row[0] == name]
        return dict(zip(head, row, strict=True))

    def cards(self) -> dict[str, str]:
        """Headline values by name."""
        names = [e.text for e in self.find("dt") if e.path[-2:] == ("dl", "div")]
        values = [e.text for e in self.find("dd", class_="value")]
        return dict(zip(names, values, strict=True))


def read(path: Path) -> Page:
    """Parse the page in a file."""
    return parse(path.read_text(encoding="utf-8"))


def parse(text: str) -> Page:
    """Parse a page; every element that is opened must be closed in order."""
    page = Page()
    page.feed(text)
    page.close()
    assert not page._open
    return page
