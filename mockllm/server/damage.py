"""What faults do to the bytes of an answer that the model gave, in every dialect."""

from __future__ import annotations

from collections.abc import Sequence

from mockllm.passage import Damage

__all__ = ["Wounds"]

_DATA, _DONE = b"data: ", b"data: [DONE]\n\n"


class Wounds:
    """The damage that one answer has to take. `head_s` is how long its head takes to drip out."""

    def __init__(self, damage: Sequence[Damage]) -> None:
        self.head_s = sum(each.seconds for each in damage if each.kind == "slow_headers")
        self._garbled_after = min((each.after for each in damage if each.kind == "garbled"), default=None)
        self._ends_twice = any(each.kind == "duplicate_finish" for each in damage)

    def events(self, events: list[bytes], num_tokens: int) -> list[bytes]:
        """The events of the next `num_tokens` tokens; the first after so many good ones loses half of its JSON."""
        if self._garbled_after is None:
            return events
        if self._garbled_after > 0:
            self._garbled_after -= num_tokens
            return events
        self._garbled_after = None
        head, mark, data = b"".join(events).rpartition(_DATA)
        return [head, mark, data[: len(data) // 2].rstrip(b"\n") if mark else data, b"\n\n" if mark else b""]

    def closing(self, end: bytes, closing: bytes) -> list[bytes]:
        """What comes after the last token, where `end` came already: a second finish goes before `[DONE]`, which clients do
        not read past, or is the last event again."""
        if not self._ends_twice:
            return [closing]
        return [end, closing] if closing.endswith(_DONE) else [closing, closing]

    def whole(self, body: bytes) -> bytes:
        """A body in one piece: garbled, it is no JSON."""
        return body if self._garbled_after is None else body[:-1]
