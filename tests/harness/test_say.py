"""A reader that goes away takes no verdict along."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.say import say
from tests.conftest import REPOSITORY
from tests.harness.builders import record, write_run


def test_what_is_said_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    say("PASS")
    assert capsys.readouterr().out == "PASS\n"


@pytest.mark.realtime
def test_the_exit_code_is_the_verdict_also_when_nobody_reads(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "run", [[record(n) for n in range(10)]], clock="virtual", ended_how="complete")
    command = [sys.executable, "-m", "harness", "report", str(directory.path)]
    read = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (read.returncode, "") == (0, "")
