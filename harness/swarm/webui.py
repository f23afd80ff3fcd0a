"""LLM statistics in Locust's web UI: a tab with a table and charts, and the same as a page of its own at `/llm/`.

Locust's own tables stay as they are. Its React page knows tabs and tables of others (`extended_tabs`, `extended_tables`,
filled by `extended_stats` in `/stats/requests`), but no charts: `tab.js`, put into its page, shows ours below the table.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import inf, isfinite
from pathlib import Path
from typing import Any

import msgspec
from flask import Blueprint, Flask, Response, request
from locust import events
from locust.argument_parser import LocustArgumentParser, default_args_dict

from harness.live.report import LiveReport
from harness.live.stats import LATENCIES
from harness.swarm.options import add_options
from harness.swarm.watch import Watch
from harness.text import METRIC_NAMES, milliseconds, percentile_cell

__all__ = ["attach"]

_FILES = Path(__file__).parent / "webui"
_TYPES = {
    "page.html": "text/html; charset=utf-8",
    "live.css": "text/css; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "tab.js": "text/javascript; charset=utf-8",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_PERCENTS = (50, 90, 95, 99)
_KEY = "llm"
_TAB = b'<script src="./llm/tab.js" defer></script>'

# Of the common options, those that a run reads when it starts; the others are read once, from the command line.
_OFFERED = ("seed", "model", "objective", "whole", "any_length", "fresh_connections", "retries", "timeout", "drain")

_Watched = Callable[[], Watch | None]


def attach(environment: Any, watched: _Watched, trouble: Callable[[], str | None]) -> None:
    """Add tab, table and pages to the web UI, if there is one. `watched` is the run that goes on, or the last one; `trouble`
    why the last start failed: Locust's form calls every start a success."""
    ui = environment.web_ui
    if ui is None:
        return
    base = environment.parsed_options.web_base_path or ""
    events.init_command_line_parser.add_listener(_offer_options)
    ui.app.register_blueprint(_pages(watched, trouble, ui.auth_required_if_enabled, f"{base}/{_KEY}"))
    _add_tab(ui.app, watched)
    columns = [{"key": "metric", "title": "Metric (ms)"}, {"key": "num", "title": "n"}]
    columns += [{"key": f"p{percent}", "title": f"p{percent}"} for percent in _PERCENTS]
    ui.template_args["extended_tabs"] = [{"title": "LLM", "key": _KEY}]
    ui.template_args["extended_tables"] = [{"key": _KEY, "structure": [*columns, {"key": "max", "title": "max"}]}]
    ui.template_args["extended_csv_files"] = [
        {"href": "./llm/", "title": "LLM statistics: page"},
        {"href": "./llm/live.json", "title": "LLM statistics: JSON"},
    ]


def _pages(
    watched: _Watched, trouble: Callable[[], str | None], guarded: Callable[[Any], Any], prefix: str
) -> Blueprint:
    pages = Blueprint(_KEY, __name__, url_prefix=prefix)

    @pages.route("/")
    @guarded
    def page() -> Response:
        return _file("page.html")

    @pages.route("/<any('live.css', 'live.js', 'tab.js'):name>")
    @guarded
    def file(name: str) -> Response:
        return _file(name)

    @pages.route("/live.json")
    @guarded
    def live() -> Response:
        watch, why = watched(), trouble()
        if why is not None:
            return _answer(msgspec.json.encode({"state": "none", "trouble": why}), "application/json")
        body = b'{"state":"none"}' if watch is None else msgspec.json.encode(watch.report(_after()))
        return _answer(body, "application/json")

    return pages


def _after() -> float:
    """The instant after which the asker has no points yet; what is no number asks for all."""
    try:
        after = float(request.args.get("after", ""))
    except ValueError:
        return -inf
    return after if isfinite(after) else -inf


def _file(name: str) -> Response:
    return _answer((_FILES / name).read_bytes(), _TYPES[name])


def _answer(body: bytes, content_type: str) -> Response:
    headers = {"Cache-Control": "no-store", "Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"}
    return Response(body, content_type=content_type, headers=headers)


def _add_tab(app: Flask, watched: _Watched) -> None:
    @app.after_request
    def extend(response: Response) -> Response:
        if response.status_code != 200:
            return response
        if request.endpoint == "locust.index":
            response.set_data(response.get_data().replace(b"</body>", _TAB + b"</body>"))
        elif request.endpoint == "locust.request_stats":
            watch = watched()
            answer = msgspec.json.decode(response.get_data())
            answer["extended_stats"] = [{"key": _KEY, "data": [] if watch is None else _rows(watch.report(inf))}]
            response.set_data(msgspec.json.encode(answer))
        return response


def _rows(report: LiveReport) -> list[dict[str, str]]:
    """The table of the tab: the latencies of all ok requests so far."""
    rows = []
    for name in LATENCIES:
        metric = report.latencies[name]
        cells = {f"p{percent}": percentile_cell(metric, percent) for percent in _PERCENTS}
        row = {"metric": METRIC_NAMES[name], "num": f"{metric.num:,}", **cells, "max": milliseconds(metric.maximum)}
        rows.append(row)
    return rows


def _offer_options(parser: Any) -> None:
    """Let the form for a new run show the scenario's own options: Locust leaves out what stands in a group.

    Not what was left open: a field of the form cannot be left open, it would become an empty text.
    """
    known = _common()
    for action in parser._actions:
        if not hasattr(action, "include_in_web_ui"):
            is_plain = isinstance(parser.get_default(action.dest), str | int | float)
            action.include_in_web_ui = is_plain and (action.dest in _OFFERED or action.dest not in known)
            action.is_secret = action.is_required = action.is_multiple = False


@cache
def _common() -> frozenset[str]:
    """The names of Locust's options, and of those that every scenario has."""
    parser = LocustArgumentParser()
    add_options(parser)
    return frozenset({action.dest for action in parser._actions} | set(default_args_dict()))
