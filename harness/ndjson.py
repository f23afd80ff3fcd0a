"""Lines of JSON, decoded incrementally: bytes in, events out, no I/O. One line is one event; blank lines are none."""

from __future__ import annotations

import msgspec

from harness.sse import SseEvent

__all__ = ["LineDecoder"]


class LineDecoder:
    """Feed it the body in any pieces; LF and CRLF end lines. The last line may go without an end."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[SseEvent]:
        """The events that this piece completes."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return [SseEvent("message", line) for line in map(bytes.strip, lines) if line]

    def close(self) -> list[SseEvent]:
        """The last line, when it is complete without an end: half a line is no JSON."""
        line = self._rest.strip()
        try:
            msgspec.json.decode(line, type=msgspec.Raw)
        except msgspec.DecodeError:
            return []
        self._rest = b""
        return [SseEvent("message", line)]

    @property
    def pending(self) -> bool:
        """Whether a line has begun that is not complete: the stream was cut inside it."""
        return bool(self._rest.strip())
