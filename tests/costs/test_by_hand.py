"""The bill of documented answers, from their bytes through dialect, record and file to the cent: against sums worked out by hand,
and against the arithmetic of genai-prices over the same bodies."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

import msgspec
import pytest
from genai_prices import Usage, calc_price, extract_usage

from harness.costs.bill import Bill
from harness.costs.fold import bill
from harness.price_list import listed_prices
from harness.prices import load_prices, priced
from harness.records import RequestRecord
from harness.store import open_run
from harness.summary import load_run
from tests.conftest import REPOSITORY
from tests.costs.documented import CASES, PRICE_FILE, Case
from tests.harness.builders import write_run

pytestmark = pytest.mark.realtime  # the records are made in a process

_NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
_COPIES = 200
_EACH = pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])


@pytest.fixture(scope="module")
def price_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prices") / "prices.yaml"
    path.write_text(PRICE_FILE)
    return path


@pytest.fixture(scope="module")
def records(price_file: Path) -> list[RequestRecord]:
    command = [sys.executable, "-m", "tests.costs.recording", str(price_file)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True, timeout=60)
    return [msgspec.json.decode(line, type=RequestRecord) for line in done.stdout.splitlines()]


@_EACH
def test_a_documented_answer_costs_what_a_hand_works_out(number: int, records: list[RequestRecord]) -> None:
    case, record = CASES[number], records[number]
    assert record.outcome == "ok"
    assert record.cost_usd == pytest.approx(float(case.usd), rel=1e-12)
    assert record.num_prompt_tokens == case.usage["input_tokens"]
    assert record.num_output_tokens == case.usage["output_tokens"]
    assert record.num_cached_tokens == case.usage.get("cache_read_tokens", 0)
    assert (record.num_cache_write_tokens or 0) == case.usage.get("cache_write_tokens", 0)
    assert (record.num_cache_write_1h_tokens or 0) == case.usage.get("cache_write_1h_tokens", 0)


@_EACH
def test_a_documented_answer_costs_what_the_list_says(number: int, records: list[RequestRecord]) -> None:
    """The published prices of the file are those of the list too, and our reading of the list gives the list's own bill."""
    case, record = CASES[number], records[number]
    provider = "anthropic" if case.model.startswith("claude") else "openai"
    theirs = calc_price(
        Usage(**case.usage),
        case.model,
        provider_id=provider,
        genai_request_timestamp=_NOON,
        price_context={"processing": "batch"} if case.in_batch else None,
    ).total_price
    assert theirs == case.usd
    ours = listed_prices(provider, [case.model], _NOON.timestamp()).cost(record)
    assert ours == pytest.approx(float(theirs), rel=1e-12)


@pytest.mark.parametrize("case", [case for case in CASES if case.flavor], ids=lambda case: case.name)
def test_another_reader_of_the_body_finds_the_same_tokens(case: Case) -> None:
    provider = "anthropic" if case.model.startswith("claude") else "openai"
    found = extract_usage(json.loads(case.body), provider_id=provider, api_flavor=case.flavor).usage
    assert {name: found.reported_value(name) for name in case.usage} == case.usage


@pytest.fixture(scope="module")
def whole(records: list[RequestRecord], price_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Bill:
    """200 of each, through the files of a run."""
    many = [
        msgspec.structs.replace(record, request_id=f"run-1-{copy * len(records) + index}")
        for copy in range(_COPIES)
        for index, record in enumerate(records)
    ]
    path = tmp_path_factory.mktemp("runs") / "run"
    write_run(path, [many], prices=priced(load_prices(price_file)))
    run = load_run(open_run(path))
    found = bill(run.table, run.manifest, objectives={}, gpu=None)
    assert found is not None
    return found


def _cents(usd: Decimal | float) -> Decimal:
    return Decimal(usd).quantize(Decimal("0.01"), ROUND_HALF_EVEN)


def test_the_bill_of_a_run_is_right_to_the_cent(whole: Bill) -> None:
    by_hand = _COPIES * sum((case.usd for case in CASES), Decimal(0))
    assert whole.usd is not None
    assert _cents(whole.usd) == _cents(by_hand)
    assert by_hand > 60  # cents say something about it
    assert whole.usd == pytest.approx(float(by_hand), rel=1e-12)
    assert (whole.num_priced, whole.num_unknown) == (_COPIES * len(CASES), 0)


def test_the_bill_by_kind_of_token_is_right_to_the_cent(whole: Bill) -> None:
    """Sums over the table of cases, by the columns of the price pages."""
    mini = large = claude = long = Decimal(_COPIES) / 1_000_000
    by_hand = {
        "prompt": mini * (86 + 3_600) * Decimal("0.25") + mini * 2_976 * Decimal("0.125")
        + large * 6_827 * 2 + large * 3_856 * 1
        + claude * 2_048 * 3 + claude * 11 * Decimal("1.5") + long * 50 * 6,
        "cached prompt": mini * 1_920 * Decimal("0.025") + mini * 1_024 * Decimal("0.0125")
        + large * (8_192 + 6_144) * Decimal("0.5")
        + claude * 1_800 * Decimal("0.3") + claude * 5_000 * Decimal("0.15") + long * 188_086 * Decimal("0.6"),
        "cache write": claude * 148 * Decimal("3.75") + claude * 1_200 * Decimal("1.875") + long * 20_000 * Decimal("7.5"),
        "cache write, 1 h": claude * 100 * 6,
        "output": mini * (108 + 230) * 2 + mini * 388 * 1 + large * 1_010 * 8 + large * 700 * 4
        + claude * 503 * 15 + claude * 2_400 * Decimal("7.5") + long * 393 * Decimal("22.5"),
        "reasoning": mini * (192 + 640) * 2 + mini * 512 * 1,
    }  # fmt: skip
    assert [line.name for line in whole.by_kind] == list(by_hand)
    assert {line.name: _cents(line.usd) for line in whole.by_kind} == {
        name: _cents(usd) for name, usd in by_hand.items()
    }
    tokens = {line.name: line.num_tokens for line in whole.by_kind}
    assert tokens["cached prompt"] == _COPIES * (1_920 + 8_192 + 1_024 + 6_144 + 1_800 + 188_086 + 5_000)
    assert tokens["reasoning"] == _COPIES * (192 + 640 + 512)


def test_the_savings_are_right_to_the_cent(whole: Bill) -> None:
    """The provider's cache at the price of input, what it took to write taken off; batches at the price of the same alone."""
    each = Decimal(_COPIES) / 1_000_000
    cache = each * (
        1_920 * (Decimal("0.25") - Decimal("0.025")) + 8_192 * (2 - Decimal("0.5"))
        + 1_024 * (Decimal("0.25") - Decimal("0.025")) / 2 + 6_144 * (1 - Decimal("0.5"))
        + 1_800 * (3 - Decimal("0.3")) + 148 * (3 - Decimal("3.75")) + 100 * (3 - 6)
        + 188_086 * (6 - Decimal("0.6")) + 20_000 * (6 - Decimal("7.5"))
        + (5_000 * (3 - Decimal("0.3")) + 1_200 * (3 - Decimal("3.75"))) / 2
    )  # fmt: skip
    batch = each * (
        2_976 * Decimal("0.125") + 1_024 * Decimal("0.0125") + 900
        + 3_856 + 700 * 4
        + 11 * Decimal("1.5") + 5_000 * Decimal("0.15") + 1_200 * Decimal("1.875") + 2_400 * Decimal("7.5")
    )  # fmt: skip
    assert {each.kind: _cents(each.usd) for each in whole.savings} == {
        "provider cache": _cents(cache),
        "batch": _cents(batch),
    }
    assert {each.kind: each.num_requests for each in whole.savings} == {
        "provider cache": 7 * _COPIES,
        "batch": 3 * _COPIES,
    }


def test_answers_under_a_dated_name_are_billed_as_what_was_asked_for(whole: Bill) -> None:
    assert whole.notes == []
    assert {line.name for line in whole.by_model} == {
        "gpt-5-mini-2025-08-07", "gpt-4.1-2025-04-14", "claude-sonnet-4-5-20250929"
    }  # fmt: skip
