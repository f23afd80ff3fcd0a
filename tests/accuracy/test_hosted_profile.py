"""The `hosted` profile against the measurements it was fitted to (in-sample, so the bound is the fit's own)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mockllm import Request, Tokens, build_engine, chunks_of, load_deployment, simulate


def test_ttft_and_tpot_quantiles_of_the_measured_provider(shared_data: Path) -> None:
    rows = json.loads((shared_data / "llmperf_leaderboard" / "anyscale_70b.json").read_text())
    good = [row for row in rows if not row["error_code"] and row["number_output_tokens"] > 1]
    ttft = np.array([row["ttft_s"] for row in good])
    tpot = np.array([(row["end_to_end_latency_s"] - row["ttft_s"]) / (row["number_output_tokens"] - 1) for row in good])

    engine = build_engine(load_deployment("hosted"), every_token=False)
    load = [(0.0, Request(f"r{n}", f"k{n}", "hosted-70b", 550, max_tokens=150, ignore_eos=True)) for n in range(20_000)]
    spans = [list(chunks_of(e)) for e in simulate(engine, load) if isinstance(e, Tokens)]
    mock_ttft = np.array([span[0].at for span in spans])
    mock_tpot = np.array([(span[-1].at - span[0].at) / (150 - span[0].num) for span in spans])

    for percent in (50, 90, 99):
        assert np.percentile(mock_ttft, percent) == pytest.approx(np.percentile(ttft, percent), rel=0.10), percent
    for percent in (50, 90):
        assert np.percentile(mock_tpot, percent) == pytest.approx(np.percentile(tpot, percent), rel=0.10), percent
