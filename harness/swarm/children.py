"""Processes that belong together end together: forked workers do not outlive their master, nor hang about after a run."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable

import gevent
import psutil

__all__ = ["die_with_parent", "end_children", "has_ended", "is_child", "num_living_children"]

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Let the kernel send SIGTERM to this process when its parent dies, however that dies. Linux only; elsewhere nothing."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died just now
        os.kill(os.getpid(), signal.SIGTERM)


def end_children(pids: Iterable[int], patience_s: float) -> list[int]:
    """Wait for those of our children that have these ids, then kill the rest. Returns the ids of those killed.

    They are left for Locust to reap, which would be confused by a child that is gone. A pid that is none of our children is
    left alone: it comes from a message.
    """
    children = [child for child in psutil.Process().children() if child.pid in set(pids)]
    until = time.monotonic() + patience_s
    while time.monotonic() < until and any(_lives(child) for child in children):
        gevent.sleep(0.05)
    killed = [child for child in children if _lives(child)]
    for child in killed:
        child.kill()
    return [child.pid for child in killed]


def num_living_children() -> int:
    """How many processes of ours there are."""
    return sum(_lives(child) for child in psutil.Process().children())


def is_child(pid: int) -> bool:
    """Whether this id, which comes from a message, is that of a child of ours."""
    try:
        return bool(psutil.Process(pid).ppid() == os.getpid())
    except (psutil.Error, ValueError):
        return False


def has_ended(pid: int) -> bool:
    """Whether a process that was a child of ours has ended, reaped or not."""
    try:
        return not _lives(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return True


def _lives(child: psutil.Process) -> bool:
    try:
        return bool(child.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
