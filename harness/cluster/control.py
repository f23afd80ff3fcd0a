"""What master and workers tell each other during a run, beside what Locust's runners do.

A worker beats a few times a second; each beat says all there is to say about its share, so that a beat that was lost or came
twice changes nothing. The master echoes each beat, with what it wants of that worker. Beat and echo together are heartbeat,
status and clock exchange in one. What does not decode is nobody's message: it is dropped, never an error.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec

from harness.cluster.shards import ShardFile

__all__ = ["BEAT", "ECHO", "PIECE", "PULL", "Beat", "Echo", "Piece", "Pull", "State", "decode", "encode"]

BEAT, ECHO, PULL, PIECE = "harness_beat", "harness_echo", "harness_pull", "harness_piece"  # names of Locust messages

State = Literal["idle", "preparing", "ready", "running", "closed"]


class Beat(msgspec.Struct, kw_only=True, frozen=True):
    """Worker to master. `sent_at` is the worker's monotonic clock.

    `state`: idle has no share; preparing makes its plan; ready waits for the origin; running; closed has written its last
    line. `finished`: its share was sent, or refused, to the last arrival; `drained`: and every answer has ended.
    `stop_reason`: why it sends no more; `broken_off` when that holds for what is in flight too. `spool` is where its files
    lie when that is not the run directory. `uid` names the run. `live` is a snapshot for the live view.
    """

    sequence: int
    sent_at: float
    boot_id: str | None
    host: str
    pid: int
    uid: str | None = None
    state: State = "idle"
    finished: bool = False
    drained: bool = False
    stop_reason: str | None = None
    broken_off: bool = False
    spool: str | None = None
    files: list[ShardFile] = []
    live: bytes | None = None


class Echo(msgspec.Struct, kw_only=True, frozen=True):
    """Master to worker: `sequence` and `sent_at` of the beat it answers, and when that was, by the master's monotonic clock.

    `origin`: the run's instant zero by the master's monotonic clock, once everybody is ready. `stop`: why no more may be
    sent; `break_off`: nor may what is in flight go on. `taken`: the worker's files are here, whole.
    """

    sequence: int
    sent_at: float
    received_at: float
    replied_at: float
    boot_id: str | None
    uid: str | None = None
    origin: float | None = None
    stop: str | None = None
    break_off: bool = False
    taken: bool = False


class Pull(msgspec.Struct, kw_only=True, frozen=True):
    """Master to worker: send me a piece of that file of yours."""

    uid: str
    name: str
    offset: int


class Piece(msgspec.Struct, kw_only=True, frozen=True):
    """Worker to master: the bytes of a file from `offset`."""

    uid: str
    name: str
    offset: int
    data: bytes


_Kind = TypeVar("_Kind", Beat, Echo, Pull, Piece)


def encode(message: Beat | Echo | Pull | Piece) -> bytes:
    """The message as bytes, which is what Locust is given to carry."""
    return msgspec.msgpack.encode(message)


def decode(kind: type[_Kind], data: object) -> _Kind | None:
    """The message, or None when `data` is no such message."""
    if not isinstance(data, bytes):
        return None
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError):  # ValueError: text that is no UTF-8
        return None
