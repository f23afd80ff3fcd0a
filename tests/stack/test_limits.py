"""Rate limits: what gets through is what the arithmetic of buckets allows, whatever comes and goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm import Cut, Emission, Finished, Refused, Request, load_deployment
from mockllm.building import build_engine
from mockllm.engine.hosted import HostedReplica
from mockllm.engine.prompt_cache import PromptCache
from mockllm.errors import DeploymentError
from mockllm.model import CachePoint
from mockllm.passage import Quota, Tenant
from mockllm.stack.limits import ModelLimits
from mockllm.stack.quotas import Account, Limit, Size
from mockllm.stack.stack import Stack
from mockllm.stack.stage import Again, End, Flight, Leaving, Refusal, Stage, Strike
from tests.stack.build import STREAMS, ask, end_of, ends, engine, known, passage_of, run, stack
from tests.stack.clocks import assert_both_clocks_agree, run_with_cancels

ACME, ZEBRA = Tenant(organization="acme"), Tenant(organization="zebra")
ANSWER_S = 0.2 + 49 * 0.02  # 50 tokens of the model `small`


def limits(**keys: Any) -> tuple[str, dict[str, Any]]:
    """Limits for each organization."""
    return "rate_limits", {"organization": keys}


def sized(number: int, num_prompt: int, num_output: int, model: str = "small", **changes: Any) -> Request:
    """An answer as long as the client allows: what is reserved is used."""
    lengths = {"num_prompt_tokens": num_prompt, "num_answer_tokens": num_output, "max_tokens": num_output}
    return ask(number, model, **{"tenant": ACME, "watched": False, **lengths, **changes})


def admitted(out: Sequence[Emission]) -> list[str]:
    """Those that were answered, in the order of their numbers."""
    return sorted(
        (name for name, end in ends(out).items() if isinstance(end, Finished)), key=lambda name: int(name[1:])
    )


def quotas(out: Sequence[Emission], number: int) -> dict[str, Quota]:
    passage = ends(out)[f"r{number}"].passage  # type: ignore[union-attr]
    assert passage is not None
    return {quota.kind: quota for quota in passage.quotas}


def of_stage(subject: Stack, name: str) -> Any:
    """Part of the state of the first stage."""
    return subject.stages[0].state(1e9)[name]


# -- the effect ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_tokens", [1000, 730, 4999])
def test_of_tokens_as_many_a_minute_get_through_as_the_limit_says(num_tokens: int) -> None:
    """Ten minutes of three times as much as is allowed: a full bucket at first, then 40,000 a minute."""
    minutes, per_minute = 10, 40_000
    pause_s = 60 * num_tokens / (3 * per_minute)
    load = [(n * pause_s, sized(n, num_tokens - 40, 40)) for n in range(ceil(minutes * 60 / pause_s))]
    assert len(admitted(run(stack(), load))) == len(load), "without the limit all do"
    out = run(stack(limits(tokens="40000/min")), load)
    at = {request.request_id: at for at, request in load}
    instants = [at[name] for name in admitted(out)]
    assert len(instants) * num_tokens == pytest.approx(per_minute * (minutes + 1), abs=1.5 * num_tokens)
    for minute in range(2, minutes):
        in_it = sum(num_tokens for instant in instants if 60 * minute <= instant < 60 * (minute + 1))
        assert in_it == pytest.approx(per_minute, abs=num_tokens)


def test_what_is_reserved_and_not_used_is_there_for_others() -> None:
    """Each allows 500 tokens and gets 50: with the prompt, 150 of 600. In the long run those 150 count; what is never
    there for others is one reservation, and what three on their way have too much."""
    load = [(n * 0.5, sized(n, 100, 50, max_tokens=500)) for n in range(1200)]
    out = run(stack(limits(tokens="6000/min")), load)
    assert len(admitted(out)) * 150 == pytest.approx(6000 * 11, abs=600 + 3 * 450)


# -- whatever comes --------------------------------------------------------------------------------------------------

BURSTS = st.lists(
    st.tuples(
        st.one_of(st.just(0.0), st.floats(0, 2), st.floats(0, 90)),
        st.integers(1, 300),
        st.integers(1, 200),
        st.integers(0, 300),
    ),
    min_size=1,
    max_size=60,
)


def loaded(bursts: Sequence[tuple[float, int, int, int]]) -> list[tuple[float, Request]]:
    """Requests after pauses, with prompts, answers, and more allowed than is used."""
    instants = accumulate(pause for pause, *_ in bursts)
    return [
        (at, sized(n, prompt, answer, max_tokens=answer + beyond))
        for n, (at, (_, prompt, answer, beyond)) in enumerate(zip(instants, bursts, strict=True))
    ]


@given(BURSTS, st.sampled_from(["tokens", "input_tokens", "output_tokens", "requests"]))
@settings(max_examples=150, deadline=None)
def test_in_any_time_no_more_gets_through_than_the_bucket_holds_and_what_comes_in(
    bursts: list[tuple[float, int, int, int]], kind: str
) -> None:
    rate, capacity = {"requests": (6.0, 3.0)}.get(kind, (1200.0, 600.0))
    load = loaded(bursts)
    through = set(admitted(run(stack(limits(**{kind: f"{rate:g}/min", "burst": "30s"})), load)))
    used = [
        (at, getattr(Size.of(0, request.num_prompt_tokens, request.num_answer_tokens or 0), kind))
        for at, request in load
        if request.request_id in through
    ]
    totals = [0, *accumulate(amount for _, amount in used)]
    for first in range(len(used)):
        for last in range(first, len(used)):
            assert totals[last + 1] - totals[first] <= capacity + rate / 60 * (used[last][0] - used[first][0]) + 0.1


@given(BURSTS)
@settings(max_examples=100, deadline=None)
def test_of_several_limits_all_admit_or_none_is_charged(bursts: list[tuple[float, int, int, int]]) -> None:
    """Against buckets that are written down here, charged only for who gets through. Nothing is reserved in excess."""
    load = [(at, replace(request, max_tokens=request.num_answer_tokens)) for at, request in loaded(bursts)]
    load = [
        (at, replace(each, tenant=Tenant(organization="acme", user=f"u{n % 3}"))) for n, (at, each) in enumerate(load)
    ]
    keys = {"organization": {"tokens": "1200/min", "requests": "20/min"}, "user": {"input_tokens": "400/min"}}
    out = run(stack(("rate_limits", keys)), load)
    levels = {"tokens": 1200.0, "requests": 20.0, "u0": 400.0, "u1": 400.0, "u2": 400.0}
    full, before, expected = dict(levels), 0.0, []
    for at, request in load:
        levels = {name: min(full[name], level + (at - before) * full[name] / 60) for name, level in levels.items()}
        before = at
        answer, user = request.num_answer_tokens or 0, request.tenant.user or ""
        charges = {"tokens": request.num_prompt_tokens + answer, "requests": 1, user: request.num_prompt_tokens}
        if all(levels[name] + 1e-3 >= charge for name, charge in charges.items()):
            expected.append(request.request_id)
            levels |= {name: levels[name] - charge for name, charge in charges.items()}
    assert admitted(out) == expected
    assert len(ends(out)) == len(load)


@given(st.lists(st.tuples(st.integers(1, 900), st.floats(0, 20)), min_size=1, max_size=30))
@settings(max_examples=80, deadline=None)
def test_a_client_that_comes_back_exactly_when_it_was_told_to_is_let_in(sizes: list[tuple[int, float]]) -> None:
    subject = stack(limits(tokens="1000/min", requests="7/min", input_tokens="950/min"))
    now, number = 0.0, 0
    for num_tokens, pause in sizes:
        now += pause
        for attempt in range(2):
            number += 1
            out = subject.advance(now)
            subject.submit(sized(number, num_tokens, 1), now)
            out += subject.advance(now)
            refused = [each for each in out if isinstance(each, Refused) and each.request_id == f"r{number}"]
            if not refused:
                break
            assert attempt == 0, "it waited as long as it was told"
            assert refused[0].retry_after_s is not None
            now += refused[0].retry_after_s


# -- how it counts ---------------------------------------------------------------------------------------------------


def test_the_client_is_told_what_is_left_on_success_and_on_refusal() -> None:
    load = [(0.0, sized(0, 600, 100)), (6.0, sized(1, 300, 100)), (6.0, sized(2, 30, 20))]
    out = run(stack(limits(tokens="1000/min", requests="60/min")), load)
    full_again_s = [[quota.reset_s for quota in quotas(out, n).values()] for n in range(3)]
    assert full_again_s == [pytest.approx([1.0, 42.0]), pytest.approx([1.0, 60.0]), pytest.approx([1.0, 60.0])]
    told = [[quota._replace(reset_s=0.0) for quota in quotas(out, n).values()] for n in range(3)]
    for number, (at, left) in enumerate([(0.0, 300), (6.0, 0), (6.0, 0)]):
        requests = Quota("requests", 60, 59, 0.0, "organization", at)
        assert told[number] == [requests, Quota("tokens", 1000, left, 0.0, "organization", at)]
    refused = end_of(out, 2)
    assert isinstance(refused, Refused)
    assert quotas(out, 2)["requests"].remaining == 59, "the refusal is not charged"
    assert (refused.status, refused.kind) == (429, "tokens")
    assert refused.retry_after_s == pytest.approx(3.0)
    assert passage_of(out, 2).notes == ["rate_limits: refused by organization tokens"]


def test_limits_stand_for_each_label_and_those_without_one_share_theirs() -> None:
    tenants = [ACME, ZEBRA, Tenant(), Tenant(user="somebody")]
    load = [(n * 0.001, sized(n, 1, 1, tenant=tenants[n % 4])) for n in range(16)]
    out = run(stack(limits(requests="2/min")), load)
    through = [tenants[int(name[1:]) % 4].organization for name in admitted(out)]
    assert sorted(map(str, through)) == ["None"] * 2 + ["acme"] * 2 + ["zebra"] * 2


@pytest.mark.parametrize(
    ("tenant", "doors", "whose"),
    [
        (ACME, None, "one organization"),
        (Tenant(user="somebody"), None, "all requests that name no organization"),
        (ACME, {"requests": "1/min"}, "model small"),
    ],
)
def test_a_refusal_says_whose_limit_it_is_and_names_nobody(
    tenant: Tenant, doors: dict[str, Any] | None, whose: str
) -> None:
    """Else a load without users, under a limit for each of them, is refused and nobody sees why."""
    subject = stack(doors=provider("small", **doors)) if doors else stack(limits(requests="1/min"))
    out = run(subject, [(0.0, sized(n, 10, 10, tenant=tenant)) for n in range(2)])
    refused = end_of(out, 1)
    assert isinstance(refused, Refused)
    assert refused.message == f"The limit of 1 requests a minute for {whose} is exceeded: 1 used, 1 requested."


@pytest.mark.parametrize(
    ("keys", "changes", "charge"),
    [
        ({}, {"max_tokens": 700}, 800),
        ({}, {"max_tokens": None}, 150),  # the model's median answer: 50
        ({"reserve_output": False}, {"max_tokens": 700}, 101),
        ({}, {"choice": 2, "max_tokens": 30}, 30),
        ({}, {"batch": True, "max_tokens": 30}, None),
    ],
)
def test_what_is_charged_before_the_answer_is_known(
    keys: dict[str, Any], changes: dict[str, Any], charge: int | None
) -> None:
    out = run(stack(limits(tokens="1000/min", requests="5/min", **keys)), [(0.0, sized(0, 100, 30, **changes))])
    if charge is None:
        assert passage_of(out, 0).quotas == ()
    else:
        assert quotas(out, 0)["tokens"].remaining == 1000 - charge
        assert quotas(out, 0)["requests"].remaining == (5 if "choice" in changes else 4)


class Breaking:
    """A door that refuses requests, or cuts their answers after ten tokens."""

    def __init__(self, met: Refusal | Strike) -> None:
        self.met = met

    def enter(self, request: Request, now: float) -> Refusal | Strike:
        return self.met

    def left(self, request: Request, end: End, now: float) -> None: ...


REFUSING, CUTTING = Breaking(Refusal(503, "overloaded", "no")), Breaking(Strike(cut=Cut("", 0.0, 10)))


@pytest.mark.parametrize(
    ("doors", "cancel_at", "watched", "used"),
    [
        ([], None, True, 150),
        ([CUTTING], None, True, 110),
        ([REFUSING], None, True, 0),
        ([], 0.1, True, 100),  # its prompt was with the model
        ([], 0.2 + 9.5 * 0.02, True, 110),
        ([], 0.2 + 9.5 * 0.02, False, 100),  # nobody saw how far it came
    ],
)
def test_what_was_not_used_comes_back_however_it_ends(
    doors: list[Breaking], cancel_at: float | None, watched: bool, used: int
) -> None:
    """A bucket of a day, so that nothing comes in meanwhile; the next request is told what is left."""
    asked = limits(tokens="1440/d", requests="1440/d", concurrency=1, burst="1d")
    subject = stack(asked, doors={"small": doors}, every_token=True)
    subject.submit(sized(0, 100, 50, max_tokens=400, watched=watched), 0.0)
    if cancel_at is not None:
        subject.advance(cancel_at)
        assert subject.cancel("r0", cancel_at)
    subject.advance(3.0)
    subject.submit(sized(1, 100, 100), 3.0)
    out = subject.advance(60.0)
    assert quotas(out, 1)["tokens"].remaining == 1440 - used - 200
    assert quotas(out, 1)["requests"].remaining == 1438, "each counts as a request"


def test_a_request_that_no_model_was_asked_for_gives_its_prompt_back() -> None:
    subject = stack(limits(tokens="1440/d", burst="1d"), ("priority_queue", {"workers": 1}))
    for number in (0, 1):
        subject.submit(sized(number, 100, 50), 0.0)
    subject.advance(0.1)
    assert subject.cancel("r1", 0.1)  # it waited behind the other
    out = subject.advance(30.0)
    subject.submit(sized(2, 100, 50), 30.0)
    out += subject.advance(60.0)
    assert quotas(out, 2)["tokens"].remaining == 1440 - 2 * 150


def test_what_a_prompt_cache_knew_does_not_count_as_input() -> None:
    """Of Anthropic's input tokens, but of OpenAI's tokens it does."""
    cached = HostedReplica(known(0.2, 0.02), STREAMS, every_token=False, prompt_cache=PromptCache())
    behind = engine({"small": cached})
    subject = stack(limits(input_tokens="10000/d", tokens="10000/d", burst="1d"), behind=behind)
    points = (CachePoint(2000, 77, 300.0),)
    load = [(n * 10.0, sized(n, 2100, 50, cache_points=points)) for n in range(3)]
    out = run(subject, load)
    assert [quotas(out, n)["input_tokens"].remaining for n in range(3)] == [7900, 5801, 5702]
    assert [quotas(out, n)["tokens"].remaining for n in range(3)] == [7850, 5701, 3552]


def test_without_a_reservation_an_answer_is_paid_when_it_ends() -> None:
    """Anthropic since 2025: a client may allow 64,000 tokens under a limit of 8,000. What was too much is paid off."""
    asked = limits(output_tokens="8000/min", reserve_output=False)
    load = [(n * 1.0, sized(n, 10, 400, max_tokens=64_000)) for n in range(600)]
    out = run(stack(asked), load)
    assert len(admitted(out)) * 400 == pytest.approx(8000 * 11, rel=0.05)
    with_reservation = run(stack(limits(output_tokens="8000/min")), load)
    assert admitted(with_reservation) == []


def test_what_can_never_fit_is_refused_for_good() -> None:
    out = run(stack(limits(tokens="1000/min")), [(0.0, sized(0, 900, 101)), (0.0, sized(1, 900, 100))])
    refused = end_of(out, 0)
    assert isinstance(refused, Refused)
    assert refused.retry_after_s is None
    assert refused.excess is not None
    assert refused.excess.is_too_large
    assert admitted(out) == ["r1"]


# OpenAI's own refusals, as users reported them (semanser/codel#72, FoundationAgents/MetaGPT#523, wally#62 on GitLab,
# BuilderIO/micro-agent#86, OpenBMB/ChatDev#26): limit, used, requested, "try again in".
REPORTED = [
    ("tokens", 30_000, 14_567, 24_754, 18.642),
    ("tokens", 10_000, 8_554, 3_082, 9.816),
    ("tokens", 10_000, 8_782, 8_172, 41.724),
    ("tokens", 30_000, 29_937, 385, 0.644),
    ("requests", 3, 3, 1, 20.0),
]


@pytest.mark.parametrize(("kind", "limit", "used", "requested", "wait_s"), REPORTED)
def test_openais_own_refusals_are_told_alike(kind: str, limit: int, used: int, requested: int, wait_s: float) -> None:
    account = Account("organization", None, Limit.model_validate({kind: f"{limit}/min"}))
    nothing = Size(0, 0, 0, 0)
    account.admit(nothing._replace(**{kind: used}), 1000.0)
    excess = account.excess(nothing._replace(**{kind: requested}), "gpt-4o", 1000.0)
    assert excess is not None
    assert (excess.kind, excess.limit, excess.used, excess.requested) == (kind, limit, used, requested)
    assert excess.wait_s == pytest.approx(wait_s, abs=1e-9)


# -- how many at once ------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.floats(0, 0.4), st.sampled_from([None, "small", "refusing", "cutting"])), max_size=40),
    st.lists(st.tuples(st.integers(0, 39), st.floats(0, 1.5)), max_size=12),
)
@settings(max_examples=100, deadline=None)
def test_never_more_at_once_than_allowed_and_every_place_is_given_back(
    pauses: list[tuple[float, str | None]], cancels: list[tuple[int, float]]
) -> None:
    replica = HostedReplica(known(0.2, 0.02), STREAMS, every_token=False)
    behind = engine({"small": replica, "refusing": replica, "cutting": replica})
    subject = stack(
        limits(concurrency=3, tokens="60000/min"), behind=behind, doors={"refusing": [REFUSING], "cutting": [CUTTING]}
    )
    instants = list(accumulate(pause for pause, _ in pauses))
    load = [
        (at, sized(n, 10, 50, model=kind or "small"))
        for n, (at, (_, kind)) in enumerate(zip(instants, pauses, strict=True))
    ]
    out = run_with_cancels(subject, load, cancels)
    gone_at = {f"r{n}": instants[n] + after for n, after in sorted(cancels, reverse=True) if n < len(load)}
    ended = ends(out)
    for at, _ in load:
        busy = 0
        for other_at, other in load:
            end = ended.get(other.request_id)
            if isinstance(end, Refused) and end.excess is not None:
                continue
            until = gone_at[other.request_id] if end is None else end.at
            busy += other_at <= at < until
        assert busy <= 3
    assert of_stage(subject, "in_flight") == 0
    subject.submit(sized(99, 10, 50), 1e6)
    subject.advance(2e6)
    assert of_stage(subject, "counts")["refused"] == sum(
        isinstance(end, Refused) and end.excess is not None for end in ended.values()
    )


def test_nobody_knows_when_somebody_else_will_be_done() -> None:
    out = run(stack(limits(concurrency=1)), [(0.0, sized(0, 10, 50)), (0.1, sized(1, 10, 50)), (2.0, sized(2, 10, 50))])
    refused = end_of(out, 1)
    assert isinstance(refused, Refused)
    assert (refused.status, refused.retry_after_s) == (429, None)
    assert refused.excess is not None
    assert (refused.excess.kind, refused.excess.limit, refused.excess.used) == ("concurrency", 1, 1)
    assert admitted(out) == ["r0", "r2"]


def test_several_answers_to_one_request_take_one_place() -> None:
    out = run(stack(limits(concurrency=1)), [(0.0, sized(n, 10, 50, choice=n % 3)) for n in range(4)])
    assert admitted(out) == ["r0", "r1", "r2"]


# -- books -----------------------------------------------------------------------------------------------------------


@given(
    BURSTS,
    st.lists(st.tuples(st.integers(0, 59), st.floats(0, 3)), max_size=20),
    st.sampled_from([[], [{"queue": "30s"}], [{"queue": "2s"}, {"model": "large"}]]),
)
@settings(max_examples=80, deadline=None)
def test_after_all_is_over_every_bucket_is_as_full_as_before(
    bursts: list[tuple[float, int, int, int]], cancels: list[tuple[int, float]], instead: list[dict[str, str]]
) -> None:
    keys = {"organization": {"tokens": "900/min", "concurrency": 2}, "user": {"requests": "9/min"}, "instead": instead}
    subject = stack(("rate_limits", keys))
    run_with_cancels(subject, loaded(bursts), cancels)
    assert of_stage(subject, "in_flight") == of_stage(subject, "waiting") == 0
    lowest = of_stage(subject, "limits")
    assert lowest["organization"]["lowest"] == {"tokens": 900}
    assert lowest["user"]["lowest"] == {"requests": 9}


def test_both_clocks_admit_the_same() -> None:
    keys = {
        "organization": {"tokens": "3000/min", "concurrency": 4},
        "user": {"requests": "12/min"},
        "instead": [{"queue": "4s"}, {"model": "large"}],
    }
    load = [(n * 0.3, sized(n, 90, 60, tenant=Tenant(user=f"u{n % 3}"), watched=bool(n % 2))) for n in range(60)]
    subject = assert_both_clocks_agree(lambda every_token: stack(("rate_limits", keys), every_token=every_token), load)
    counts = of_stage(subject, "counts")
    assert min(counts["admitted"], counts["queued"], counts["degraded"]) > 0


def test_users_who_are_gone_are_forgotten_and_nobody_is_let_off() -> None:
    keys = {"organization": {"requests": "100000/min"}, "user": {"requests": "2/min"}}
    subject = stack(("rate_limits", keys))
    load = [(n * 0.5, sized(n, 1, 1, tenant=Tenant("", f"u{n}", "acme"))) for n in range(5000)]
    again = [(2500.0 + n, sized(6000 + n, 1, 1, tenant=Tenant("", "u4999", "acme"))) for n in range(3)]
    out = run(subject, [*load, *again])
    assert of_stage(subject, "limits")["user"]["active"] < 2500
    assert of_stage(subject, "limits")["organization"]["active"] == 1
    assert sorted(set(ends(out)) - set(admitted(out))) == ["r6001", "r6002"]


# -- a provider's own ------------------------------------------------------------------------------------------------


def provider(behind_model: str, **keys: Any) -> dict[str, list[ModelLimits]]:
    return {behind_model: [ModelLimits(behind_model, Limit.model_validate(keys), engine().models)]}


def test_a_providers_limit_is_met_by_every_call_and_told_to_the_client() -> None:
    subject = stack(limits(requests="99/min"), doors=provider("small", tokens="1000/min"))
    out = run(subject, [(n * 1.0, sized(n, 400, 50, tenant=(ACME, ZEBRA)[n % 2])) for n in range(4)])
    assert admitted(out) == ["r0", "r1"]
    assert [(quota.kind, quota.scope) for quota in passage_of(out, 0).quotas] == [
        ("requests", "organization"),
        ("tokens", "model"),
    ]
    refused = end_of(out, 2)
    assert isinstance(refused, Refused)
    assert refused.status == 429
    assert refused.retry_after_s == pytest.approx((450 - 133) / (1000 / 60))
    assert quotas(out, 2)["tokens"].remaining == 133


def test_a_client_is_told_of_the_model_that_was_called_last() -> None:
    class Fallback(Stage):
        name = "fallback"

        def leave(self, flight: Flight, end: End, now: float) -> Leaving:
            if isinstance(end, Refused) and flight.request.model == "small":
                flight.request = replace(flight.request, model="large")
                return Again(now)
            return None

    doors = provider("small", requests="1/min") | provider("large", tokens="99999/min")
    out = run(stack(Fallback(), doors=doors), [(0.0, sized(n, 10, 10)) for n in range(2)])
    assert [passage_of(out, n).model for n in range(2)] == ["small", "large"]
    assert [[quota.kind for quota in passage_of(out, n).quotas] for n in range(2)] == [["requests"], ["tokens"]]


@pytest.mark.parametrize(("cancel_at", "used"), [(None, 150), (0.1, 100), (0.2 + 9.5 * 0.02, 110)])
def test_a_provider_too_gives_back_what_was_not_used(cancel_at: float | None, used: int) -> None:
    subject = stack(doors=provider("small", tokens="1440/d", burst="1d"), every_token=True)
    subject.submit(sized(0, 100, 50, max_tokens=400, watched=True), 0.0)
    if cancel_at is not None:
        subject.advance(cancel_at)
        subject.cancel("r0", cancel_at)
    subject.advance(3.0)
    subject.submit(sized(1, 100, 100), 3.0)
    assert quotas(subject.advance(60.0), 1)["tokens"].remaining == 1440 - used - 200


# -- in a file -------------------------------------------------------------------------------------------------------

FILE = """\
models:
  - name: small
    profile: instant
    limits: {tokens: 40000/min, requests: 500/min}
"""


def test_a_deployment_with_nothing_but_a_models_limits_has_a_stack(tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text(FILE)
    subject = build_engine(load_deployment(str(tmp_path / "d.yaml")), every_token=False)
    assert isinstance(subject, Stack)
    out = run(subject, [(0.0, sized(n, 900, 100)) for n in range(50)])
    assert len(admitted(out)) == 40


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("    limits: {}\n", 4, ["limits nothing"]),
        ("    limits: {tokens: 40000}\n", 4, ["40000", "500/min"]),
        ("    limits: {requests: 10/min, burst: 5s}\n", 4, ["less than 1", "burst"]),
        ("    limits: {tpm: 40000/min}\n", 4, ["tpm"]),
        ("stack:\n  - rate_limits: {}\n", 5, ["limits nobody", "organization"]),
        ("stack:\n  - rate_limits:\n      user: {requests: 20/min}\n      instead: [{model: tiny}]\n", 7, ["tiny"]),
        ("stack:\n  - rate_limits:\n      user: {requests: 20/min}\n      instead: [{stale: false}]\n", 7, ["stale"]),
        (
            "stack:\n  - rate_limits:\n      user: {requests: 20/min}\n      instead: [{queue: 5s, model: small}]\n",
            7,
            ["one of"],
        ),
        (
            "stack:\n  - rate_limits:\n      user: {requests: 20/min}\n      instead: [{queue: 5s}, {queue: 6s}]\n",
            5,
            ["waits once"],
        ),
    ],
)
def test_a_file_that_cannot_be_meant_so_is_refused(tmp_path: Path, text: str, line: int, words: list[str]) -> None:
    (tmp_path / "d.yaml").write_text("models:\n  - name: small\n    profile: instant\n" + text)
    with pytest.raises(DeploymentError) as caught:
        load_deployment(str(tmp_path / "d.yaml"))
    assert caught.value.line == line
    assert all(word in str(caught.value) for word in words)


def test_it_says_what_it_does() -> None:
    keys = {
        "organization": {"tokens": "40000/min", "requests": "500/min"},
        "user": {"requests": "60/min", "concurrency": 2, "burst": "1s"},
        "instead": [{"model": "small"}, {"stale": True}, {"queue": "30s"}],
    }
    assert stack(("rate_limits", keys)).stages[0].describe() == (
        "each organization: 500 requests a minute, 40,000 tokens a minute; "
        "each user: 60 requests a minute (bursts of 1 s), 2 at once; "
        "above that small answers, then a stale answer, then a wait of up to 30 s, then HTTP 429"
    )
