"""Clock and timers of a load process, measured inside one: `harness doctor` starts it and reads its answer.

python -m harness.swarm.selfcheck
"""

from __future__ import annotations

import sys
import time
from typing import Any

import gevent
import msgspec
import numpy as np
from gevent import socket

from harness.doctor.certificate import Clocks
from harness.rxstamp import ANCILLARY_BYTES, stamp_of, switch_on

__all__ = ["check_clocks"]

_NUM_STEPS = 2000
_NUM_WAITS = 500
_WAIT_S = 0.001
_NUM_TRIES = 20  # the kernel begins to stamp a little after it was asked


def check_clocks() -> Clocks:
    """Takes about a second."""
    late = np.sort([_lateness() for _ in range(_NUM_WAITS)])
    return Clocks(
        resolution_s=_resolution(),
        timer_late_p50_s=float(np.percentile(late, 50, method="inverted_cdf")),
        timer_late_p99_s=float(np.percentile(late, 99, method="inverted_cdf")),
        timer_late_max_s=float(late[-1]),
        receive_stamps=_stamps_come(),
    )


def _resolution() -> float:
    """The smallest step that the monotonic clock makes, as a program sees it."""
    smallest = float("inf")
    for _ in range(_NUM_STEPS):
        before = now = time.monotonic()
        while now == before:
            now = time.monotonic()
        smallest = min(smallest, now - before)
    return smallest


def _lateness() -> float:
    due = time.monotonic() + _WAIT_S
    gevent.sleep(_WAIT_S)
    return max(0.0, time.monotonic() - due)


def _stamps_come() -> bool:
    """Whether bytes over a TCP connection on this machine come with the kernel's stamp."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        with socket.create_connection(listener.getsockname()) as here, listener.accept()[0] as there:
            if not switch_on(here):
                return False
            raw: Any = here  # gevent's socket waits in its own recvmsg; the one inside does not
            for _ in range(_NUM_TRIES):
                there.sendall(b"x")
                socket.wait_read(here.fileno(), timeout=1.0)
                if stamp_of(raw._sock.recvmsg(1, ANCILLARY_BYTES)[1]) is not None:
                    return True
                gevent.sleep(0.01)
    return False


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(check_clocks()))
