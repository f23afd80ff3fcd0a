"""The master's end of a distributed run: it deals out the shares, sets the start, watches the workers, fetches what they wrote."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
import zmq
from gevent.event import Event
from locust.rpc import Message
from locust.runners import MasterRunner

from harness.clock import boot_id
from harness.cluster.control import BEAT, ECHO, PIECE, PULL, Beat, Echo, Piece, Pull, decode, encode
from harness.cluster.roster import Member, Roster
from harness.cluster.shards import Download, ShardFile, verify_file
from harness.errors import RunError
from harness.live.stats import LiveBoard, LiveStats
from harness.swarm.children import has_ended, is_child

__all__ = ["MasterEnd"]

_LOOK_S = 0.1
_LEAD_S = 1.0  # between everybody's being ready and the origin: every worker hears of it several times
_MARGIN_S = 10.0  # after the time to drain; whoever is not done by then is given up
_CLOSE_WITHIN_S = 8.0  # after the order to stop: footers, checksums
_TELL_WITHIN_S = 4.0  # that files were taken: in the echo of the next beat
_ASK_AGAIN_S = 1.0
_PATIENCE_S = 10.0  # without a new byte of a shard
_LOG = logging.getLogger("harness")


class MasterEnd:
    """One a master process. `roster` is that of the run that goes on, or of the last one."""

    def __init__(self, runner: MasterRunner) -> None:
        self._runner = runner
        self._boot = boot_id()
        self.roster: Roster | None = None
        self._on_begin: Callable[[float], None] = lambda origin: None
        self.board = LiveBoard()
        self._directory = Path()
        self._ends_after_s = 0.0
        self._ended = False
        self._collectors: dict[str, Any] = {}  # greenlets, by worker
        self._download: Download | None = None
        self._pieces: list[Piece] = []  # that have come
        self._came = Event()
        self._problems: dict[str, str] = {}  # by worker: why its files are not here
        self._told_taken: set[str] = set()  # the workers that were told that theirs are
        self._num_told = 0
        self._children: dict[str, int | None] = {}  # by worker: its pid, where we forked it
        runner.register_message(BEAT, self._on_beat)
        runner.register_message(PIECE, self._on_piece)
        gevent.spawn(self._look_on)

    def names(self) -> list[str]:
        """The workers that would get a share now."""
        clients = self._runner.clients
        return [client.id for client in (*clients.ready, *clients.running, *clients.spawning)]

    def start(
        self,
        uid: str,
        names: Sequence[str],
        directory: Path,
        ends_after_s: float,
        *,
        on_begin: Callable[[float], None],
    ) -> None:
        """A run begins as soon as all who have a share are ready; `on_begin` is told its origin. It is over `ends_after_s`
        after that, whoever is not done. `board` then has the newest totals of each worker."""
        self.board = LiveBoard()
        self._on_begin, self._directory, self._ends_after_s = on_begin, directory, ends_after_s
        self._collectors, self._problems, self._told_taken, self._download = {}, {}, set(), None
        self._num_told, self._ended = 0, False
        self.roster = Roster(uid, names, time.monotonic())

    @property
    def over(self) -> bool:
        """Whether nobody sends or reads any more, or nobody should."""
        roster = self.roster
        if roster is None:
            return True
        overdue = roster.origin is not None and time.monotonic() - roster.origin > self._ends_after_s + _MARGIN_S
        return roster.over or overdue

    def end(self, reason: str) -> None:
        """Stop who still sends, for `reason`, and fetch what is to be had. Takes bounded time."""
        roster = self.roster
        assert roster is not None
        if not roster.over:
            roster.order_stop(reason, break_off=True)
        until = time.monotonic() + _CLOSE_WITHIN_S
        while not roster.over and time.monotonic() < until:
            gevent.sleep(0.05)
        self._look(roster)  # who has just closed is to be fetched from
        gevent.joinall(list(self._collectors.values()))
        self._await_telling(roster)
        self._ended = True

    def lost(self) -> list[str]:
        """The workers that are given up, so far."""
        return [] if self.roster is None else self.roster.lost

    def losses(self) -> list[str]:
        """Once the run has ended: whose records are missing, or may be, and where they lie."""
        assert self.roster is not None
        return [loss for member in self.roster.members.values() if (loss := self._loss(member)) is not None]

    def pids(self) -> list[int]:
        """The processes that say they are workers of this machine."""
        members = [] if self.roster is None else self.roster.members.values()
        return [each.beat.pid for each in members if each.beat is not None and each.beat.boot_id == self._boot]

    # -- beats ---------------------------------------------------------------------------------------

    def _on_beat(self, msg: Any, **_: Any) -> None:
        received_at = time.monotonic()
        beat = decode(Beat, msg.data)
        if beat is None:
            return
        if msg.node_id not in self._children and msg.node_id in self._runner.clients:
            self._children[msg.node_id] = beat.pid if is_child(beat.pid) else None
        roster = self.roster
        member = None if roster is None else roster.members.get(msg.node_id)
        if roster is None or member is None:
            echo = Echo(**self._clock_part(beat, received_at))
        else:
            if not self._ended:
                roster.note(msg.node_id, beat, received_at)
                self._note_live(roster, msg.node_id, beat)
            taken = self._is_taken(member)
            echo = Echo(
                **self._clock_part(beat, received_at),
                uid=roster.uid,
                origin=roster.origin,
                stop=roster.stop or member.lost,
                break_off=roster.break_off or member.lost is not None,
                taken=taken,
            )
            if taken:
                self._told_taken.add(msg.node_id)
        self._send(ECHO, echo, msg.node_id)

    def _clock_part(self, beat: Beat, received_at: float) -> dict[str, Any]:
        return {
            "sequence": beat.sequence,
            "sent_at": beat.sent_at,
            "received_at": received_at,
            "replied_at": time.monotonic(),
            "boot_id": self._boot,
        }

    def _note_live(self, roster: Roster, name: str, beat: Beat) -> None:
        if beat.live is not None and beat.uid == roster.uid:
            with suppress(RunError):
                self.board.put(name, LiveStats.from_bytes(beat.live))

    def _send(self, kind: str, message: Echo | Pull, name: str) -> None:
        """Without Locust's retries, which would hold up the greenlet that reads."""
        packed = Message(kind, encode(message), name).serialize()
        with suppress(zmq.ZMQError):
            self._runner.server.socket.send_multipart([name.encode(), packed], zmq.NOBLOCK)

    # -- watching ------------------------------------------------------------------------------------

    def _look_on(self) -> None:
        while True:
            if self.roster is not None and not self._ended:
                self._look(self.roster)
            gevent.sleep(_LOOK_S)

    def _look(self, roster: Roster) -> None:
        now = time.monotonic()
        roster.look(now)
        if roster.origin is None:  # who makes a plan may be silent for long; later silence tells
            self._look_for_dead(roster)
        lost = roster.lost
        for reason in lost[self._num_told :]:
            _LOG.error("%s: the run will be INVALID", reason)
        self._num_told = len(lost)
        if roster.origin is None:
            if lost:
                roster.order_stop("the run was not begun, because not every worker was there", break_off=True)
            elif roster.ready and roster.stop is None:
                roster.origin = now + _LEAD_S
                self._on_begin(roster.origin)
        for name, member in roster.members.items():
            if member.closed and name not in self._collectors:
                self._collectors[name] = gevent.spawn(self._collect, member)

    def _look_for_dead(self, roster: Roster) -> None:
        for name, member in roster.members.items():
            pid = self._children.get(name)
            if pid is not None and not member.closed and has_ended(pid):
                member.lost = member.lost or f"{member} died before the run"

    # -- fetching what they wrote --------------------------------------------------------------------

    def _collect(self, member: Member) -> None:
        """Fetch the files of a worker that has closed them; or see that they are here, where it wrote them."""
        assert member.beat is not None
        try:
            for file in member.beat.files:
                if member.beat.spool is not None:
                    self._fetch(member, file)
                elif (problem := verify_file(self._directory, file)) is not None:
                    raise RunError(problem)
        except RunError as error:
            self._problems[member.name] = str(error)
            _LOG.error("%s: %s", member, error)

    def _fetch(self, member: Member, file: ShardFile) -> None:
        download = Download(self._directory, file)
        while self._download is not None:  # one file at a time: the port is for beats too
            gevent.sleep(0.02)
        self._download = download
        try:
            self._fetch_pieces(member, download)
        except RunError:
            download.abandon()
            raise
        finally:
            self._download = None

    def _fetch_pieces(self, member: Member, download: Download) -> None:
        assert self.roster is not None
        until = time.monotonic() + _PATIENCE_S
        while download.offset < download.file.size:
            before = download.offset
            self._pieces.clear()
            self._came.clear()
            self._send(PULL, Pull(uid=self.roster.uid, name=download.file.name, offset=before), member.name)
            self._came.wait(_ASK_AGAIN_S)
            for piece in self._pieces:
                download.take(piece.offset, piece.data)
            if download.offset > before:
                until = time.monotonic() + _PATIENCE_S
            elif time.monotonic() > until:
                raise RunError(f"{download.file.name} could not be fetched")

    def _on_piece(self, msg: Any, **_: Any) -> None:
        piece, download, roster = decode(Piece, msg.data), self._download, self.roster
        if piece is None or download is None or roster is None or msg.node_id not in roster.members:
            return
        if (piece.uid, piece.name, piece.offset) == (roster.uid, download.file.name, download.offset):
            self._pieces.append(piece)
            self._came.set()

    def _is_taken(self, member: Member) -> bool:
        collector = self._collectors.get(member.name)
        return collector is not None and collector.ready() and member.name not in self._problems

    def _await_telling(self, roster: Roster) -> None:
        """Give who keeps its own files the time to ask once more: after Locust's word to quit a worker reads nothing, and
        what it was not told of by then would lie on its disk for ever."""
        until = time.monotonic() + _TELL_WITHIN_S
        while time.monotonic() < until and any(
            self._is_taken(member) and member.beat is not None and member.beat.spool is not None
            for name, member in roster.members.items()
            if name not in self._told_taken
        ):
            gevent.sleep(0.02)

    def _loss(self, member: Member) -> str | None:
        if self._is_taken(member):
            return member.lost
        reason = member.lost or f"{member}: {self._problems.get(member.name, 'it did not close its files')}"
        beat = member.beat
        if beat is None or beat.spool is None:
            return reason
        return f"{reason}; its records lie on {beat.host} in {beat.spool}"
