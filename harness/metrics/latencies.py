"""The latencies of requests by name, as columns: the one place that says what each of them means.

TTFT and E2E count from the intended time; `*_from_send` are kept beside them. The stages say where the time of a request
went: send lag (ours) + connect + wait for the first byte + first byte to first token + decode + tail = E2E.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from harness.table import Floats, Table

__all__ = ["LATENCIES", "STAGES", "latency"]

STAGES = ("send_lag", "connect", "first_byte", "first_content", "decode", "tail")


def latency(table: Table, name: str) -> Floats:
    """One value a row, in seconds; NaN where it is not known, or not defined (TPOT of one token).

    `ttft`, `ttft_from_send`, `e2e`, `e2e_from_send`, `e2e_unthrottled` (less the time that we waited because the server asked
    for it), `tpot` = (last content - first content) / (output tokens - 1), `queue` (what the server says that it let the
    request wait), and the stages. Of every row, whatever its outcome. Raises KeyError for another name.
    """
    return _LATENCIES[name](table)


def _tpot(table: Table) -> Floats:
    output = table["num_output_tokens"]
    with np.errstate(divide="ignore", invalid="ignore"):
        tpot = (table["last_token_at"] - table["first_token_at"]) / (output - 1)
    return np.asarray(np.where(output > 1, tpot, np.nan))


def _opened(table: Table) -> Floats:
    """When the request could go out: the connection was open. A kept one was open at the send."""
    return np.asarray(np.where(np.isnan(table["connected_at"]), table["sent_at"], table["connected_at"]))


_LATENCIES: dict[str, Callable[[Table], Floats]] = {
    "ttft": lambda t: t["first_token_at"] - t["intended_at"],
    "ttft_from_send": lambda t: t["first_token_at"] - t["sent_at"],
    "tpot": _tpot,
    "e2e": lambda t: t["done_at"] - t["intended_at"],
    "e2e_from_send": lambda t: t["done_at"] - t["sent_at"],
    "e2e_unthrottled": lambda t: t["done_at"] - t["intended_at"] - np.nan_to_num(t["throttled_s"]),
    "queue": lambda t: t["queue_s"],
    "send_lag": lambda t: t["sent_at"] - t["intended_at"],
    "connect": lambda t: t["connected_at"] - t["sent_at"],
    "first_byte": lambda t: t["first_byte_at"] - _opened(t),
    "first_content": lambda t: t["first_token_at"] - t["first_byte_at"],
    "decode": lambda t: t["last_token_at"] - t["first_token_at"],
    "tail": lambda t: t["done_at"] - t["last_token_at"],
}

LATENCIES = tuple(_LATENCIES)
