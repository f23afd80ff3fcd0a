"""The worker's end of a distributed run: it beats, takes up its share, and hands over what it wrote."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
import zmq
from locust.rpc import Message
from locust.runners import WorkerRunner

from harness.clock import boot_id
from harness.cluster.clock_offset import ClockOffset
from harness.cluster.control import BEAT, ECHO, PIECE, PULL, Beat, Echo, Piece, Pull, State, decode, encode
from harness.cluster.lifeline import Lifeline
from harness.cluster.shards import ShardFile, describe_file, read_piece
from harness.errors import HarnessError, RunError
from harness.store import create_run, next_free, open_run
from harness.swarm.run import LoadRun, RunSettings

__all__ = ["WorkerEnd"]

_BEAT_S = 0.15
_FIRST_BEATS_S = 0.05  # until the clocks are known to each other
_NUM_EXCHANGES = 8
_SILENCE_S = 1.5  # with the next look at it, the load stops within 2 s of the master's death
_LIVE_S = 1.0
_HAND_OVER_S = 10.0


class WorkerEnd:
    """One a worker process. `run` is the run that it has a share of, until the next one."""

    def __init__(self, runner: WorkerRunner) -> None:
        self._runner = runner
        self._clock = ClockOffset()
        self._boot, self._host = boot_id(), socket.gethostname()
        self._sequence = 0
        self._forget(None)
        runner.register_message(ECHO, self._on_echo)
        runner.register_message(PULL, self._on_pull)
        gevent.spawn(self._beat_on)

    def _forget(self, uid: str | None) -> None:
        """Nothing is known yet of the run of that name."""
        self.run: LoadRun | None = None
        self._uid = uid
        self._state: State = "idle"
        self._lifeline: Lifeline | None = None
        self._break_off: str | None = None
        self._reason: str | None = None
        self._is_complete = self._is_closing = False
        self._spool: Path | None = None
        self._files: list[ShardFile] = []
        self._taken = False
        self._live_at = 0.0

    # -- the life of a share -------------------------------------------------------------------------

    def start(
        self, settings: RunSettings, make: Callable[[Callable[[], None], Callable[[], str | None]], LoadRun]
    ) -> None:
        """Take up a share: `make` its run, given what is to be called when it has finished and what says that the worker was
        left alone. Raises HarnessError, and tells the master so."""
        self._forget(settings.uid)
        self._state = "preparing"
        self._send_beat()
        try:
            self.run = make(self._note_finished, self._left_alone)
        except HarnessError as error:
            self._give_up(str(error))
            raise
        self._state = "ready"
        self._send_beat()

    def end(self) -> None:
        """Whatever happens, what is there now is all there will be."""
        if self.run is not None and self._state in ("ready", "running") and not self._is_closing:
            self._close(self.run)

    def hand_over(self) -> None:
        """Wait a while for the master to fetch the files, when this process is about to end."""
        until = time.monotonic() + _HAND_OVER_S
        while time.monotonic() < until and not self._is_alone() and (self._is_closing or self._has_files_to_give):
            gevent.sleep(0.05)

    @property
    def _has_files_to_give(self) -> bool:
        return self._spool is not None and bool(self._files) and not self._taken

    def _note_finished(self) -> None:
        assert self.run is not None
        self._is_complete = self.run.ended_because is None
        gevent.spawn(self.end)  # the greenlet that says so is a user, and may be killed

    def _close(self, run: LoadRun) -> None:
        self._is_closing = True
        run.shut()
        if run.collector_error is not None:
            self._is_complete = False
        self._reason = self._own_reason()
        self._files = _described(run.files)
        self._state, self._is_closing = "closed", False
        self._send_beat()

    def _give_up(self, reason: str) -> None:
        self._reason, self._state = reason, "closed"
        self._send_beat()

    # -- beats ---------------------------------------------------------------------------------------

    def _beat_on(self) -> None:
        while True:
            self._send_beat()
            gevent.sleep(_BEAT_S if self._clock.num_exchanges >= _NUM_EXCHANGES else _FIRST_BEATS_S)

    def _send_beat(self) -> None:
        """Say everything. A beat that cannot be sent is not repeated: the next one says it too."""
        run = self.run
        self._sequence += 1
        beat = Beat(
            sequence=self._sequence,
            sent_at=time.monotonic(),
            boot_id=self._boot,
            host=self._host,
            pid=os.getpid(),
            uid=self._uid,
            state=self._state,
            finished=self._is_complete,
            drained=run is not None and run.drained,
            stop_reason=self._own_reason(),
            spool=None if self._spool is None else str(self._spool.resolve()),
            files=self._files,
            live=self._live(),
        )
        self._send(BEAT, beat)

    def _own_reason(self) -> str | None:
        """Why this worker sends no more, if it was not told so."""
        if self._state == "closed" or self.run is None:
            return self._reason
        if self.run.told_to_stop or self._is_complete or not self.run.has_begun:
            return None
        return self.run.stop_reason

    def _live(self) -> bytes | None:
        """The totals so far: once a second, and in every beat of a run that is over."""
        if self.run is None or (self._state != "closed" and time.monotonic() - self._live_at < _LIVE_S):
            return None
        self._live_at = time.monotonic()
        return self.run.look().to_bytes()

    def _send(self, kind: str, message: Beat | Piece) -> None:
        """Without Locust's retries, which would hold up whoever sends."""
        packed = Message(kind, encode(message), self._runner.client_id).serialize()
        with suppress(zmq.ZMQError):  # nobody listens; who hears no echo stops by itself
            self._runner.client.socket.send(packed, zmq.NOBLOCK)

    # -- what the master says ------------------------------------------------------------------------

    def _on_echo(self, msg: Any, **_: Any) -> None:
        now = time.monotonic()
        echo = decode(Echo, msg.data)
        if echo is None:
            return
        same_boot = self._boot is not None and echo.boot_id == self._boot
        self._clock.add(echo.sent_at, echo.received_at, echo.replied_at, now, same_boot=same_boot)
        run = self.run
        if run is None or echo.uid != self._uid:
            return
        if self._lifeline is not None:
            self._lifeline.heard(now)
        if echo.stop is not None:
            self._obey(run, echo.stop, break_off=echo.break_off)
        elif echo.origin is not None and self._state == "ready" and self._clock.num_exchanges >= _NUM_EXCHANGES:
            self._begin(run, echo.origin, same_boot=same_boot)
        if echo.taken and not self._taken:
            self._let_go()

    def _obey(self, run: LoadRun, reason: str, *, break_off: bool) -> None:
        run.told_to_stop = run.told_to_stop or reason
        if break_off:
            self._break_off = self._break_off or reason
        if self._state == "ready":
            gevent.spawn(self.end)

    def _begin(self, run: LoadRun, origin: float, *, same_boot: bool) -> None:
        offset = self._clock.best()
        assert offset is not None
        self._lifeline = Lifeline(_SILENCE_S, time.monotonic())
        try:
            run.begin(origin - offset.offset_s, self._place(run.settings, same_boot=same_boot), offset)
        except HarnessError as error:
            run.call_off()
            self._give_up(str(error))
            return
        self._state = "running"
        self._send_beat()

    def _place(self, settings: RunSettings, *, same_boot: bool) -> Path:
        """The run directory, where this process sees the master's disk; else one of its own, to be fetched at the end."""
        shared = Path(settings.path)
        if same_boot and _is_directory_of(shared, settings):
            return shared
        name = f"{settings.run_id[:60]}-worker-{settings.shard_index}"
        self._spool = create_run(next_free(Path("runs") / name)).path
        return self._spool

    def _let_go(self) -> None:
        """The master has the files, whole."""
        self._taken = True
        if self._spool is not None:
            for file in self._files:
                (self._spool / file.name).unlink(missing_ok=True)
            if not any(self._spool.iterdir()):
                self._spool.rmdir()

    def _on_pull(self, msg: Any, **_: Any) -> None:
        pull = decode(Pull, msg.data)
        if pull is None or pull.uid != self._uid or self._spool is None or pull.offset < 0:
            return
        if pull.name in {file.name for file in self._files}:
            try:
                data = read_piece(self._spool / pull.name, pull.offset)
            except OSError:
                return  # the master gives up by itself, and says where the files lie
            self._send(PIECE, Piece(uid=pull.uid, name=pull.name, offset=pull.offset, data=data))

    # -- being left alone ----------------------------------------------------------------------------

    def _is_alone(self) -> bool:
        return self._lifeline is not None and self._lifeline.broken(time.monotonic())

    def _left_alone(self) -> str | None:
        if self._break_off is not None:
            return self._break_off
        if self._is_alone():
            return f"nothing was heard of the master for {_SILENCE_S:g} s"
        return None


def _is_directory_of(path: Path, settings: RunSettings) -> bool:
    try:
        return open_run(path).manifest().uid == settings.uid
    except RunError:
        return False


def _described(paths: list[Path]) -> list[ShardFile]:
    files = []
    for path in paths:
        for file in describe_file(path):
            gevent.sleep(0)  # a long file must not keep the beats waiting
            if file is not None:
                files.append(file)
    return files
