"""A `harness` that has been imported already: a process that forks for every command, and the few lines that ask it.

A script of many short commands would spend its time on imports, and a test of it too. What runs is the command line itself.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import traceback
from pathlib import Path

# Runs without site-packages, so it starts in a few milliseconds.
CLIENT = """
import json, os, socket, sys
ask = socket.socket(socket.AF_UNIX)
ask.connect({path!r})
socket.send_fds(ask, [json.dumps([os.getcwd(), sys.argv[1:]]).encode()], [1, 2])
sys.exit(int(ask.makefile().read() or 2))
"""


def _answer(asked: socket.socket) -> None:
    """In a process of its own: what `python -m harness WORDS` would do there."""
    from harness.cli import main

    message, handles, _, _ = socket.recv_fds(asked, 1 << 16, 2)
    cwd, words = json.loads(message)
    os.chdir(cwd)
    for number, handle in enumerate(handles, start=1):
        os.dup2(handle, number)
    sys.argv = ["harness", *words]
    code = 2
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # a fault of the command is the test's to see
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    asked.sendall(str(code).encode())


def serve(path: str) -> None:
    """Listen until killed; says "ready" on stdout."""
    import harness.cli
    import harness.virtual
    import reports.compare_page
    import reports.trend_page

    assert harness.cli
    assert harness.virtual
    assert reports.compare_page
    assert reports.trend_page
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(path)
        door.listen()
        print("ready", flush=True)
        while True:
            asked, _ = door.accept()
            if not (child := os.fork()):
                _answer(asked)
                os._exit(0)
            asked.close()
            os.waitpid(child, 0)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    serve(sys.argv[1])
