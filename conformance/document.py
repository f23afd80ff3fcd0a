"""docs/conformance.md: the matrix, and what it does and does not say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date

from conformance.matrix import Row
from conformance.stand_ins import STAND_INS

__all__ = ["document"]

_NAMES = {"openai": "OpenAI", "anthropic": "Anthropic"}

_HEAD = """\
# Conformance: the official SDKs' own tests against the mock

Written by `make conformance` on {day}, with {versions}.

Each SDK's source distribution has the tests that its makers run against a generated mock. Here the same tests run
against `mockllm serve` (profile `instant`, any model name): each with a client that accepts any answer (loose), one that
checks it against the SDK's types (strict), and the same asynchronously, aiohttp among them.

{summary}

- **passed**: every test of the row that asks the server passes.
- **not served**: the mock has no such feature. The tests run all the same, and every request is refused with a
  status of 4xx; one that is answered would fail the row.
- **not asked**: the suite puts its own answer in the place of the server's; nothing can be said.

*Tests* counts the tests that got an answer from the server; *alone* are those that never ask it (mostly that the client
refuses an empty id). *Stand-ins* are explained below the tables.

What it does not say: the suites open a stream and close it without reading it, and check types rather than meaning.
Streams, errors and the meaning of fields are the subject of `tests/contract`. Resources that are not in the tables
(assistants, audio, images, fine-tuning, WebSocket sessions and so on) are neither run nor served.
"""

_STAND_INS = """\
## Stand-ins

The suites are generated for a server that answers any id and any combination of parameters. The mock keeps what it is
given and refuses what the provider refuses, so `conformance/plugin.py` changes some values on their way; the tests and
their checks are as they were published.
"""


def document(rows: Sequence[Row], versions: dict[str, str], day: date) -> str:
    """The whole document."""
    named = " and ".join(f"{sdk} {release}" for sdk, release in versions.items())
    parts = [_HEAD.format(day=day.isoformat(), versions=named, summary=_summary(rows))]
    for sdk, release in versions.items():
        parts.append(f"## {_NAMES[sdk]}: `{sdk}` {release}\n\n{_table([row for row in rows if row.sdk == sdk])}\n")
    parts.append(_STAND_INS + "\n" + _stand_ins(rows) + "\n")
    return "\n".join(parts)


def _summary(rows: Sequence[Row]) -> str:
    lines = ["| SDK | passed | failed | not served | not asked | tests passed |", "|---|---:|---:|---:|---:|---:|"]
    for sdk in dict.fromkeys(row.sdk for row in rows):
        mine = [row for row in rows if row.sdk == sdk]
        counts = Counter(row.result for row in mine)
        tests = f"{sum(row.num_passed for row in mine)} of {sum(row.num_asked for row in mine)}"
        cells = [str(counts[result]) for result in ("passed", "failed", "not served", "not asked")]
        lines.append(f"| {_NAMES[sdk]} | {' | '.join(cells)} | {tests} |")
    return "Methods by result, and tests:\n\n" + "\n".join(lines)


def _table(rows: Sequence[Row]) -> str:
    lines = [
        "| resource | method | result | tests | alone | stand-ins | remark |",
        "|---|---|---|---:|---:|---|---|",
    ]
    for row in rows:
        tests = f"{row.num_passed}/{row.num_asked}" if row.num_asked else ""
        cells = [row.resource, row.method, row.result, tests, str(row.num_alone or "")]
        lines.append(_line([*cells, ", ".join(row.stand_ins), row.reason]))
    return "\n".join(lines)


def _stand_ins(rows: Sequence[Row]) -> str:
    lines = ["| SDK | stand-in | why |", "|---|---|---|"]
    for sdk, stand_ins in STAND_INS.items():
        used = {name for row in rows if row.sdk == sdk for name in row.stand_ins}
        lines += [_line([_NAMES[sdk], each.name, each.why]) for each in stand_ins if each.name in used]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
