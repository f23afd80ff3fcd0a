"""Server-sent events, decoded incrementally: bytes in, events out, no I/O (WHATWG HTML, section 9.2).

Written apart from the mock's encoder on purpose, so that one mistake cannot hide another.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["SseDecoder", "SseEvent"]


class SseEvent(NamedTuple):
    """One event: its type (`message` when unnamed) and its data lines joined by newlines."""

    type: str
    data: bytes


class SseDecoder:
    """Feed it the body in any pieces; LF, CRLF and CR end lines, also when cut between CR and LF."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._type = b""
        self._begun = False
        self._after_cr = False

    def feed(self, piece: bytes) -> list[SseEvent]:
        """The events that this piece completes."""
        events: list[SseEvent] = []
        between = self._begun and not (self._rest or self._data or self._type)
        if between and piece.endswith(b"\n\n") and b"\r" not in piece:
            # What nearly every read is: whole events, each of one line.
            for block in piece[:-2].split(b"\n\n"):
                if block.startswith(b"data: ") and b"\n" not in block:
                    events.append(SseEvent("message", block[6:]))
                else:
                    self._take([*block.split(b"\n"), b""], events)
            self._after_cr = False
            return events
        self._take(self._lines(piece), events)
        return events

    def _take(self, lines: list[bytes], events: list[SseEvent]) -> None:
        for line in lines:
            if line:
                self._field(line)
            elif self._data:
                name = self._type.decode("utf-8", "replace") or "message"
                events.append(SseEvent(name, b"\n".join(self._data)))
                self._data, self._type = [], b""
            else:
                self._type = b""

    def close(self) -> list[SseEvent]:
        """No more bytes come. That completes nothing: an event that no blank line has ended is none."""
        return []

    @property
    def pending(self) -> bool:
        """Whether an event has begun that no blank line has ended: the stream was cut inside it."""
        return bool(self._data or self._type or (self._rest and not self._rest.startswith(b":")))

    def _lines(self, piece: bytes) -> list[bytes]:
        if not piece:
            return []
        if self._after_cr and piece.startswith(b"\n"):
            piece = piece[1:]  # the second half of a CRLF that was cut in two
        self._after_cr = piece.endswith(b"\r")
        text = self._rest + piece
        if not self._begun and text:
            if text in (b"\xef", b"\xef\xbb"):  # perhaps the start of a byte order mark
                self._rest = text
                return []
            text = text.removeprefix(b"\xef\xbb\xbf")
            self._begun = True
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._rest = text.split(b"\n")
        return lines

    def _field(self, line: bytes) -> None:
        name, colon, value = line.partition(b":")
        if not name and colon:
            return  # a comment
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._type = value
