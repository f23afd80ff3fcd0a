"""GPUs by the hour, their energy and a month of them, worked out by hand."""

from __future__ import annotations

import pytest

from harness.costs.fold import bill
from harness.gpu.samples import GpuReport, GpuSeries
from harness.objectives import parse_objective
from harness.table import Table, tabulate
from tests.costs.runs import bill_of, costed
from tests.harness.builders import bare_record, manifest, record

_GPU = GpuSeries(gpu="GPU-1", name="H100", mig=None, num_samples=9, mean={}, maximum={}, energy_j=18_000.0)


def _an_hour(num: int = 3601) -> Table:
    """From the tenth second on a request a second for an hour, each answered in 0.2 s: 100 tokens in, 10 out, nobody knows a price."""
    return tabulate(record(number, intended_at=10.0 + number) for number in range(num))


def test_gpu_hours_are_those_from_the_first_send_to_the_last_end() -> None:
    found = bill_of(_an_hour(), None, gpu_price_per_hour=8.0)
    assert found.usd is None
    assert found.source is None
    assert found.gpu_hours == pytest.approx(3600.2 / 3600)
    assert found.gpu_usd == pytest.approx(8 * 3600.2 / 3600)
    assert found.gpu_usd_per_hour == 8.0
    assert found.gpu_why is not None
    assert "tokens have no price" in found.gpu_why


def test_without_prices_of_tokens_the_figures_are_the_gpus() -> None:
    found = bill_of(_an_hour(), None, gpu_price_per_hour=8.0, objectives={"": parse_objective("ttft<1s")})
    paid = 8 * 3600.2 / 3600
    assert found.per_request == pytest.approx(paid / 3601)
    assert found.per_1k == pytest.approx(paid / 3.601)
    assert found.per_mtok == pytest.approx(paid / (3601 * 110) * 1e6)
    assert found.per_output_mtok == pytest.approx(paid / 36_010 * 1e6)
    assert found.per_good == pytest.approx(paid / 3601)
    assert found.num_unknown == 3601


def test_prices_of_tokens_go_before_the_gpus() -> None:
    table = costed([record(0, model="large", num_prompt_tokens=1000, num_output_tokens=0)])
    found = bill_of(table, gpu_price_per_hour=3600.0, month_requests=1000.0)
    assert found.per_request == pytest.approx(0.004)
    assert found.gpu_usd == pytest.approx(0.2)
    assert found.gpu_why is not None
    assert "tokens" not in found.gpu_why
    assert found.month_usd == pytest.approx(4.0)
    assert found.gpu_month_usd == pytest.approx(730 * 3600.0)  # one copy of the target


@pytest.mark.parametrize(
    ("month_requests", "copies"),
    [(1.0, 1), (1_000_000.0, 1), (2_628_583.0, 1), (2_628_584.0, 2), (26_000_000.0, 10), (26_300_000.0, 11)],
)
def test_a_month_needs_as_many_copies_as_answer_it_at_this_rate(month_requests: float, copies: int) -> None:
    """3,601 answers in 3,600.2 s: 1.000222 a second, 2,628,583.97 in 730 hours."""
    found = bill_of(_an_hour(), None, gpu_price_per_hour=8.0, month_requests=month_requests)
    assert found.month_usd == found.gpu_month_usd == copies * 730 * 8.0


def test_a_month_of_gpus_is_explained() -> None:
    report = GpuReport(source="nvml", gpus=[_GPU, _GPU])
    found = bill_of(_an_hour(), None, gpu=report, gpu_price_per_hour=8.0, month_requests=26e6)
    assert found.month_why == (
        "26,000,000 requests a month: at the 1 a second that were answered here it takes 10 x its 2 GPUs for 730 hours"
    )


def test_a_run_without_an_answer_has_no_hours() -> None:
    for table in (tabulate([]), tabulate([bare_record(0, outcome="refused"), bare_record(1, sent_at=0.5)])):
        found = bill_of(table, None, gpu_price_per_hour=8.0, month_requests=1e6)
        assert found.gpu_usd is None
        assert found.per_request is None
        assert found.month_usd is None
        assert found.gpu_why == "no request was sent and answered, so there is no time to pay for"


def test_energy_is_by_output_token_and_absent_where_it_was_not_measured() -> None:
    measured = GpuReport(source="nvml", gpus=[_GPU], energy_j=18_005.0)
    found = bill_of(_an_hour(), None, gpu=measured, gpu_price_per_hour=8.0)
    assert found.energy_j_per_output_token == pytest.approx(0.5)
    for report in (None, GpuReport(source=None, why_not="no GPU here")):
        found = bill_of(_an_hour(2), None, gpu=report, gpu_price_per_hour=8.0)
        assert found.energy_j is None
        assert found.energy_j_per_output_token is None


def test_energy_alone_is_no_bill() -> None:
    report = GpuReport(source="nvml", gpus=[_GPU], energy_j=1.0)
    assert bill(_an_hour(2), manifest(), objectives={}, gpu=report) is None
