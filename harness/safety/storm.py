"""Guards against going on when it is certain that nothing comes of it: every key refused, or nobody there.

A load test of an outage must not be stopped, so both count only while the server has never answered well; a key that was
good and is refused many times in a row was revoked.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.records import RequestRecord

__all__ = ["NobodyThere", "RefusedKey"]

_UNAUTHORIZED = (401, 403)
_NUM_REFUSED = 5
_NUM_REVOKED = 50
_NUM_UNREACHABLE = 50


class RefusedKey:
    """Stops after `num` answers 401 or 403 in a row when no other answer came before, after `num_later` else.

    Going on would lock the account, or ban the address, and measure nothing.
    """

    def __init__(self, *, has_key: bool, num: int = _NUM_REFUSED, num_later: int = _NUM_REVOKED) -> None:
        self.stop_reason: str | None = None
        self._key = "was refused" if has_key else "is missing"
        self._num, self._num_later = num, num_later
        self._num_in_row = 0
        self._accepted = False

    def refusal(self, record: RequestRecord) -> tuple[str, str] | None:
        return None if self.stop_reason is None else ("key_refused", self.stop_reason)

    def ended(self, record: RequestRecord) -> None:
        if record.status is None:  # it got no answer, which says nothing about the key
            return
        if record.status not in _UNAUTHORIZED:
            self._accepted, self._num_in_row = True, 0
            return
        self._num_in_row += 1
        if self.stop_reason is None and self._num_in_row >= (self._num_later if self._accepted else self._num):
            self.stop_reason = (
                f"{self._num_in_row} answers in a row were {record.status}: the key in HARNESS_API_KEY {self._key}"
            )


class NobodyThere:
    """Stops after `num` connections in a row could not be made and none ever was. `connected` says whether one was by a
    request that still waits for its answer: a server that takes no more connections is overloaded, not absent."""

    def __init__(self, num: int = _NUM_UNREACHABLE, connected: Callable[[], bool] = lambda: False) -> None:
        self.stop_reason: str | None = None
        self._connected = connected
        self._num = num
        self._num_in_row = 0
        self._reached = False

    def refusal(self, record: RequestRecord) -> tuple[str, str] | None:
        return None if self.stop_reason is None else ("nobody_there", self.stop_reason)

    def ended(self, record: RequestRecord) -> None:
        if record.error_kind != "unreachable":
            self._reached = self._reached or record.connected_at is not None or record.status is not None
            return
        self._num_in_row += 1
        self._reached = self._reached or self._connected()
        if not self._reached and self.stop_reason is None and self._num_in_row >= self._num:
            self.stop_reason = f"{self._num} connections in a row failed and none was ever made: {record.error_text}"
