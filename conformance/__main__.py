"""Run the suites and write docs/conformance.md.

    python -m conformance [--folder DIR]

Needs the package index, to download the SDKs' sources and what their tests import. Exit code 1 when a row has failed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

from conformance.document import document
from conformance.matrix import Row, rows
from conformance.running import run_suite
from conformance.sandbox import prepare
from conformance.suites import SUITES
from mockllm.clock import clock_pair

_DOCUMENT = Path(__file__).parents[1] / "docs" / "conformance.md"


def main() -> int:
    """Run everything; see the module."""
    parser = argparse.ArgumentParser(prog="python -m conformance", description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="keep sources, environment and logs here, and use what is there")
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory() if folder is None else nullcontext(folder) as place:
        work = Path(place).resolve()
        work.mkdir(parents=True, exist_ok=True)
        sandbox = prepare(work)
        found: list[Row] = []
        for suite in SUITES:
            found += rows(suite.sdk, run_suite(suite, sandbox, work))
    day = datetime.fromtimestamp(clock_pair()["wall"], UTC).date()
    _DOCUMENT.write_text(document(found, sandbox.versions, day))
    failed = [row for row in found if row.result == "failed"]
    for row in failed:
        sys.stderr.write(f"failed: {row.sdk} {row.resource}.{row.method}: {row.reason}\n")
    passed = sum(row.num_passed for row in found)
    sys.stdout.write(f"{passed} tests passed; {len(failed)} of {len(found)} methods failed; see {_DOCUMENT}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
