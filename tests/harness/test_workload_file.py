"""Workload files: what they may say, and that the plan is what they say."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from splintr import Tokenizer

from harness.asks import Ask
from harness.errors import UsageError, WorkloadError
from harness.objectives import Objective
from harness.plan import Arrival
from harness.tokens import token_counter
from harness.workloads.attachments import tool_tokens
from harness.workloads.file import read_workload, workload_of
from harness.workloads.mixture import MixturePlan, mixture_plan
from harness.workloads.prompts import PromptBook
from harness.workloads.synthetic import AZURE_CONVERSATION_OUTPUT, AZURE_CONVERSATION_PROMPT, Lognormal
from tests.harness.builders import LAW

_STEADY = "arrivals: {gaps: constant, rate: 100/s, for: 40s}\n"


def _plan(tmp_path: Path, text: str, seed: int = 0, **asked: float) -> MixturePlan:
    path = tmp_path / "work.yaml"
    path.write_text(text)
    rate, duration_s = asked.get("rate"), asked.get("duration_s")
    return mixture_plan(read_workload(path), rate=rate, duration_s=duration_s, seed=seed, count=token_counter)


def _asks(tmp_path: Path, text: str, seed: int = 0) -> list[tuple[Arrival, Ask]]:
    found = []
    for arrival in _plan(tmp_path, _STEADY + text, seed).arrivals():
        assert arrival.ask is not None
        found.append((arrival, arrival.ask))
    return found


def _is_share(num: int, of: int, share: float) -> bool:
    """Whether a count is one that a share of so many explains."""
    return bool(stats.binomtest(num, of, share).pvalue > 1e-4)


# -- what stands in the file ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "key", "rule"),
    [
        ("users: 5\nuser: 6\n", 2, "user", "is no key that belongs here"),
        ("users: 5\nusers: 6\n", 2, "users", "stands twice"),
        ("users: 0\n", 1, "users.num", "greater than or equal to 1"),
        ("users: many\n", 1, "users", "got 'many'"),
        ("stream: 1.5\n", 1, "stream", "less than or equal to 1"),
        ("stream: .nan\n", 1, "stream", "finite"),
        ("turns: '3'\n", 1, "turns", "valid integer"),
        ("arrivals: {rate: 5}\n", 1, "arrivals.rate", "5 has no unit; write it with one, as 20/s"),
        ("arrivals:\n  rate: 5/s\n  for: 10\n", 3, "arrivals.for", "10 has no unit"),
        ("arrivals: {for: 10 parsecs}\n", 1, "arrivals.for", "'10 parsecs' is not a duration"),
        ("arrivals: {gaps: gamma}\n", 1, "arrivals.gaps", "'gamma' is no law of gaps"),
        ("arrivals: {gaps: 'weibull:99'}\n", 1, "arrivals.gaps", "CV 99 of weibull"),
        ("arrivals: {curve: {kind: wave}}\n", 1, "arrivals.curve", "'kind'"),
        ("arrivals: {curve: {kind: burst, factor: 4, every: 1m}}\n", 1, "arrivals.curve.burst.for", "Field required"),
        ("arrivals: {curve: {kind: mmpp, states: [{factor: 1, for: 1m}]}}\n", 1, "arrivals.curve", "at least 2 items"),
        (
            "arrivals:\n  for: 5m\n  pieces: [{rate: 1/s, for: 1m}]\n",
            1,
            "arrivals",
            "take away rate, for and curve, or pieces",
        ),
        ("prompt_tokens: {median: 5}\n", 1, "prompt_tokens", "write a number, {median, sigma, most}"),
        ("prompt_tokens: {}\n", 1, "prompt_tokens", "write a number, {median, sigma, most}"),
        ("prompt_tokens: {least: 9, most: 5}\n", 1, "prompt_tokens", "least 9 is more than most 5"),
        ("prompt_tokens: {from: a.csv}\n", 1, "prompt_tokens", "{from, column}"),
        ("prompt_tokens: {values: {0: 1}}\n", 1, "prompt_tokens.values", "greater than or equal to 1"),
        ("answer_tokens: {median: 5}\n", 1, "answer_tokens", "write a number, {median, sigma, most}"),
        ("answer_tokens: {least: 5, most: 9, at_most: 7}\n", 1, "answer_tokens", "take it away, or the length"),
        ("objective: ttft<fast\n", 1, "objective", "'fast' is not a duration"),
        ("tools: [{name: 'look up'}]\n", 1, "tools.functions[0].name", "should match pattern"),
        ("tools: {num: 3, tokens: 9}\n", 1, "tools", "greater than or equal to 60"),
        ("images: {width: 0}\n", 1, "images", "greater than or equal to 1"),
        ("answer_tokens: some\n", 1, "answer_tokens", "got 'some'"),
        ("difficulty: {least: 0.9, most: 0.1}\n", 1, "difficulty", "least 0.9 is more than most 0.1"),
        ("tier: {free: 0}\n", 1, "tier.free", "greater than 0"),
        ("tier: {}\n", 1, "tier", "at least 1 item"),
        ("tier: 'a\\nb'\n", 1, "tier", "pattern"),
        ("urgency: P3\n", 1, "urgency", "'P0', 'P1' or 'P2'"),
        ("questions: {num: 5}\n", 1, "questions.repeats", "Field required"),
        ("questions:\n  repeats: 0.7\n  paraphrases: 0.6\n", 1, "questions", "are more than 1 together"),
        ("questions: {repeats: 0.5}\nprompt_tokens: 5\n", None, None, "take away prompt_tokens, or questions"),
        (
            "questions: {repeats: 0.5}\nanswer_tokens: {median: 5, sigma: 1.0, most: 9}\n",
            None,
            None,
            "no cache would know it again",
        ),
        ("turns: 3\n", None, None, "needs users"),
        ("turns: 3\nusers: 5\nanswer_tokens: model\n", None, None, "answer_tokens as a length"),
        ("classes: []\n", 1, "classes", "must be a list of classes"),
        ("classes: [chat]\n", 1, "classes", "must be a list of classes"),
        ("classes:\n  - weight: 2\n", 2, "classes[0]", "has no name"),
        ("classes:\n  - name: a\n  - name: a\n", 3, "classes[1].name", "'a' stands twice"),
        ("classes:\n  - name: a\n    wait: 2\n", 3, "classes[0].wait", "is no key that belongs here"),
        ("classes:\n  - name: a\n  - name: b\n    weight: -1\n", 4, "classes[1].weight", "greater than 0"),
        ("stream: 7\nclasses:\n  - name: a\n", 1, "stream", "less than or equal to 1"),
        ("a: &x 1\nb: *x\n", 2, None, "alias *x is not allowed"),
        ("a: [1\n", 2, None, "is not YAML"),
        ("- 1\n", None, None, "must be a mapping"),
        ("", None, None, "must be a mapping"),
    ],
)
def test_what_is_not_understood_is_an_error_with_its_place(
    text: str, line: int | None, key: str | None, rule: str, tmp_path: Path
) -> None:
    path = tmp_path / "work.yaml"
    path.write_text(text)
    with pytest.raises(WorkloadError) as raised:
        read_workload(path)
    error = raised.value
    assert (error.line, rule in error.rule) == (line, True), error
    assert key is None or (error.key or "").startswith(key), error
    assert str(error).startswith(f"{path}:{line}" if line else str(path))


def test_a_file_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "work.yaml"
    path.write_bytes(b"users: \xff")
    with pytest.raises(WorkloadError, match="is not UTF-8"):
        read_workload(path)
    with pytest.raises(WorkloadError, match="cannot be read"):
        read_workload(tmp_path / "none.yaml")


def test_the_example_of_the_documentation_is_a_workload(tmp_path: Path) -> None:
    from harness.workloads import file as workload_file

    assert workload_file.__doc__ is not None
    example = workload_file.__doc__.split("\n\n")[1]
    plan = _plan(tmp_path, example)
    first = next(plan.arrivals())
    assert first.class_name == "chat"
    assert plan.num_arrivals == pytest.approx(12_000, rel=0.05)


def test_what_stands_outside_holds_for_every_class_without_it(tmp_path: Path) -> None:
    text = "feature: search\nprompt_tokens: 7\nclasses:\n  - {name: a}\n  - {name: b, feature: mail}\n"
    found = {(arrival.class_name, ask.feature, arrival.num_prompt_tokens) for arrival, ask in _asks(tmp_path, text)}
    assert found == {("a", "search", 7), ("b", "mail", 7)}


# -- when ----------------------------------------------------------------------------------------------------


def test_an_empty_file_and_a_rate_is_the_default_load(tmp_path: Path) -> None:
    plan = _plan(tmp_path, "stream: 1\n", rate=50.0, duration_s=60.0)
    lengths = np.array([arrival.num_prompt_tokens for arrival in plan.arrivals()])
    outputs = np.array([arrival.num_output_tokens for arrival in plan.arrivals()])
    for drawn, law in ((lengths, AZURE_CONVERSATION_PROMPT), (outputs, AZURE_CONVERSATION_OUTPUT)):
        below = (drawn < law.median).sum()
        assert _is_share(int(below), len(drawn), 0.5)
    assert _is_share(len(lengths), 6000, 0.5)  # 3,000 expected; a Poisson count varies more than that of a coin


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    text = "arrivals: {gaps: constant, rate: 10/s, for: 20s}\n"
    assert _plan(tmp_path, text).num_arrivals == 200
    assert _plan(tmp_path, text, rate=20.0).num_arrivals == 400
    assert _plan(tmp_path, text, duration_s=5.0).num_arrivals == 50


def test_pieces_have_rates_and_phases_of_their_own(tmp_path: Path) -> None:
    text = (
        "arrivals:\n  gaps: constant\n  pieces:\n    - {rate: 2/s, for: 10s, phase: quiet}\n"
        "    - {rate: 20/s, for: 5s, phase: rush}\n    - {rate: 2/s, for: 10s}\n"
    )
    plan = _plan(tmp_path, text)
    phases = Counter(arrival.phase for arrival in plan.arrivals())
    assert phases == {"quiet": 20, "rush": 100, "steady": 20}
    assert all((10 <= a.at_s < 15) == (a.phase == "rush") for a in plan.arrivals())
    cut = _plan(tmp_path, text, duration_s=12.0)
    assert (cut.duration_s, cut.num_arrivals) == (12.0, 60)
    with pytest.raises(UsageError, match="--rate has no meaning here"):
        _plan(tmp_path, text, rate=3.0)


def test_the_rate_of_a_piece_may_change(tmp_path: Path) -> None:
    text = (
        "arrivals:\n  gaps: constant\n  pieces: [{rate: 2/s, to: 10/s, for: 10s}, {rate: 10/s, for: 5s, phase: top}]\n"
    )
    plan = _plan(tmp_path, text)
    at = np.array([arrival.at_s for arrival in plan.arrivals()])
    assert len(at) == 110  # 60 under the slope, 50 after it
    assert np.abs(2 * at[:60] + 0.4 * at[:60] ** 2 - np.arange(0.5, 60)).max() < 1e-9
    assert _plan(tmp_path, text, duration_s=5.0).num_arrivals == 20


@pytest.mark.parametrize(
    ("curve", "expected", "phases"),
    [
        ("{kind: ramp, factor: 3, hold: 20s}", 100 * (2 * 80 + 3 * 20), {"ramp", "hold"}),
        (
            "{kind: steps, factors: [1, 2, 4, 1]}",
            100 * 25 * 8,
            {f"step {n + 1}, {100 * f}/s" for n, f in enumerate((1, 2, 4, 1))},
        ),
        ("{kind: burst, factor: 5, every: 20s, for: 5s}", 100 * (100 + 4 * 25), {"quiet", "burst"}),
        ("{kind: spike, factor: 8, at: 40s, for: 10s}", 100 * (100 + 7 * 10), {"before", "spike", "after"}),
        ("{kind: sawtooth, factor: 3, every: 50s}", 100 * 2 * 100, {"tooth 1", "tooth 2"}),
        ("{kind: diurnal, peak: 1.8, day: 100s}", 100 * 100, {"night", "morning", "afternoon", "evening"}),
    ],
)
def test_a_curve_bends_the_rate(curve: str, expected: float, phases: set[str], tmp_path: Path) -> None:
    """Expected: the area under the curve, by hand; `rate` is 100/s for 100 s."""
    arrivals = f"arrivals:\n  gaps: constant\n  rate: 100/s\n  for: 100s\n  curve: {curve}\n"
    plan = _plan(tmp_path, arrivals)
    assert plan.num_arrivals == pytest.approx(expected, abs=1.5)
    assert {arrival.phase for arrival in plan.arrivals()} == phases
    assert _plan(tmp_path, arrivals, rate=10.0).num_arrivals == pytest.approx(expected / 10, abs=1.5)


def test_a_modulated_rate_depends_on_the_seed_alone(tmp_path: Path) -> None:
    text = (
        "arrivals:\n  rate: 10/s\n  for: 2000s\n"
        "  curve: {kind: mmpp, states: [{factor: 0.5, for: 20s}, {factor: 4, for: 5s}]}\n"
    )
    counts = [_plan(tmp_path, text, seed=seed).num_arrivals for seed in range(20)]
    # In the mean (0.5 * 20 + 4 * 5) / 25 times the rate.
    assert np.mean(counts) == pytest.approx(10 * 2000 * 1.2, rel=0.05)
    assert len(set(counts)) == 20
    assert _plan(tmp_path, text, seed=3).pieces == _plan(tmp_path, text + "users: 5\n", seed=3).pieces


@pytest.mark.parametrize(
    ("gaps", "cv"), [("poisson", 1.0), ("gamma:2.5", 2.5), ("'weibull:1.8'", 1.8), ("constant", 0)]
)
def test_gaps_have_their_coefficient_of_variation(gaps: str, cv: float, tmp_path: Path) -> None:
    plan = _plan(tmp_path, f"arrivals: {{gaps: {gaps}, rate: 50/s, for: 2000s}}\nprompt_tokens: 3\n")
    at = np.array([at_s for at_s, _ in plan._times()])
    found = np.diff(at).std() / np.diff(at).mean()
    assert found == pytest.approx(cv, rel=0.05, abs=1e-6)


def test_a_file_that_says_neither_how_much_nor_how_long_needs_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--rate 20/s --for 10m"):
        _plan(tmp_path, "stream: 1\n", rate=5.0)


# -- who -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "weights"),
    [
        ("model", {"large": 1.0, "small": 3.0}),
        ("feature", {"chat": 5.0, "search": 4.0, "mail": 1.0}),
        ("urgency", {"P0": 1.0, "P1": 1.0, "P2": 2.0}),
        ("task", {"code": 0.3, "prose": 0.7}),
    ],
)
def test_labels_come_by_weight(label: str, weights: dict[str, float], tmp_path: Path) -> None:
    keys = ", ".join(f"{name}: {weight}" for name, weight in weights.items())
    found = Counter(getattr(ask, label) for _, ask in _asks(tmp_path, f"prompt_tokens: 3\n{label}: {{{keys}}}\n"))
    total = sum(weights.values())
    assert set(found) == set(weights)
    assert all(_is_share(found[name], found.total(), weight / total) for name, weight in weights.items())


def test_classes_and_streams_come_by_weight(tmp_path: Path) -> None:
    text = "prompt_tokens: 3\nstream: 0.25\nclasses: [{name: a, weight: 3}, {name: b}]\n"
    asks = _asks(tmp_path, text)
    assert _is_share(sum(arrival.class_name == "a" for arrival, _ in asks), len(asks), 0.75)
    assert _is_share(sum(ask.stream for _, ask in asks), len(asks), 0.25)


def test_tier_region_and_organization_belong_to_the_user(tmp_path: Path) -> None:
    text = "prompt_tokens: 3\nusers: 200\ntier: {free: 3, pro: 1}\nregion: {eu: 1, us: 1}\norganization: {x: 1, y: 1}\n"
    of_user: dict[str | None, set[tuple[str | None, ...]]] = defaultdict(set)
    for _, ask in _asks(tmp_path, text):
        of_user[ask.user].add((ask.tier, ask.region, ask.organization))
    assert len(of_user) == 200
    assert all(len(found) == 1 for found in of_user.values())
    tiers = Counter(next(iter(found))[0] for found in of_user.values())
    assert _is_share(tiers["pro"], 200, 0.25)
    assert len({next(iter(found)) for found in of_user.values()}) == 8  # independent of each other


@pytest.mark.parametrize("zipf", [0.0, 0.7, 1.2])
def test_users_are_as_popular_as_zipf_says(zipf: float, tmp_path: Path) -> None:
    text = f"prompt_tokens: 3\nusers: {{num: 50, zipf: {zipf}}}\n"
    found = Counter(ask.user for _, ask in _asks(tmp_path, text))
    weights = np.arange(1, 51, dtype=float) ** -zipf
    expected = weights / weights.sum() * found.total()
    observed = [found[f"user-{rank}"] for rank in range(50)]
    assert stats.chisquare(observed, expected).pvalue > 1e-4


def test_difficulty_is_uniform_between_its_bounds(tmp_path: Path) -> None:
    asks = _asks(tmp_path, "prompt_tokens: 3\ndifficulty: {least: 0.2, most: 0.6}\n")
    drawn = [ask.difficulty for _, ask in asks if ask.difficulty is not None]
    assert len(drawn) == len(asks)
    assert stats.kstest(drawn, stats.uniform(0.2, 0.4).cdf).pvalue > 1e-4
    assert {ask.difficulty for _, ask in _asks(tmp_path, "prompt_tokens: 3\ndifficulty: 0.5\n")} == {0.5}


def test_a_changed_key_reshuffles_nothing_else(tmp_path: Path) -> None:
    text = "prompt_tokens: {median: 50, sigma: 1.0, most: 900}\nfeature: {a: 1, b: 1}\nusers: 40\n"
    plain = _asks(tmp_path, text)
    other = _asks(
        tmp_path, text + "tier: {x: 1, y: 1}\nstream: 0.5\ndifficulty: {least: 0, most: 1}\nmodel: {m: 1, n: 1}\n"
    )
    for (one, who), (two, whom) in zip(plain, other, strict=True):
        assert (one.at_s, one.num_prompt_tokens, one.num_output_tokens) == (
            two.at_s,
            two.num_prompt_tokens,
            two.num_output_tokens,
        )
        assert (who.feature, who.user, who.messages) == (whom.feature, whom.user, whom.messages)
    assert _asks(tmp_path, text) == plain
    assert [ask for _, ask in _asks(tmp_path, text, seed=1)] != [ask for _, ask in plain]


# -- how much ------------------------------------------------------------------------------------------------


@LAW
@given(st.floats(1, 5000), st.floats(0, 2), st.integers(1, 9000), st.floats(1e-9, 1 - 1e-9))
def test_a_length_at_a_share_is_the_quantile(median: float, sigma: float, most: int, uniform: float) -> None:
    expected = stats.lognorm(s=sigma, scale=median).ppf(uniform) if sigma else median
    assert Lognormal(median, sigma, most).at(uniform) == pytest.approx(min(most, max(1, expected)), abs=0.51, rel=1e-6)


@pytest.mark.parametrize(
    ("keys", "planned", "exact"),
    [("200", {200}, True), ("model", {None}, False), ("{at_most: 70}", {70}, False)],
)
def test_answers_are_planned_limited_or_left_to_the_model(
    keys: str, planned: set[int | None], exact: bool, tmp_path: Path
) -> None:
    asks = _asks(tmp_path, f"prompt_tokens: 3\nanswer_tokens: {keys}\n")
    assert {arrival.num_output_tokens for arrival, _ in asks} == planned
    assert {ask.exact_length for _, ask in asks} == {exact}


def test_lengths_are_uniform_or_by_weight(tmp_path: Path) -> None:
    lengths = "prompt_tokens: {least: 11, most: 20}\nanswer_tokens: {values: {100: 3, 500: 1}}\n"
    asks = _asks(tmp_path, lengths)
    prompts = Counter(arrival.num_prompt_tokens for arrival, _ in asks)
    assert sorted(prompts) == list(range(11, 21))
    assert stats.chisquare(list(prompts.values())).pvalue > 1e-4
    answers = Counter(arrival.num_output_tokens for arrival, _ in asks)
    assert set(answers) == {100, 500}
    assert _is_share(answers[100], len(asks), 0.75)


def test_measured_lengths_come_from_their_rows(tmp_path: Path) -> None:
    rows = [(n * n + 1, 7 * n + 2) for n in range(50)]
    (tmp_path / "lengths.csv").write_text("in,note,out\n" + "".join(f"{a},x,{b}\n" for a, b in rows))
    text = "prompt_tokens: {from: lengths.csv, column: in}\nanswer_tokens: {from: lengths.csv, column: out}\n"
    asks = _asks(tmp_path, text)
    drawn = Counter((arrival.num_prompt_tokens, arrival.num_output_tokens or 0) for arrival, _ in asks)
    assert set(drawn) == set(rows)  # the two of a request stand in one row
    assert stats.chisquare([drawn[row] for row in rows]).pvalue > 1e-4
    alone = _asks(tmp_path, text.splitlines()[0] + "\nanswer_tokens: 9\n")
    assert [a.num_prompt_tokens for a, _ in alone] == [a.num_prompt_tokens for a, _ in asks]


@pytest.mark.parametrize(
    ("content", "line", "rule"),
    [
        ("in\n5\n0\n", 3, "'0' is no number of tokens"),
        ("in\n5.5\n", 2, "'5.5' is no number of tokens"),
        ("in,out\n5\n,3\n", 3, "'' is no number of tokens"),
        ("out\n5\n", 1, "has the columns 'out', and no 'in'"),
        ("in\n", None, "holds no length"),
        (None, None, "cannot be read"),
    ],
)
def test_lengths_that_cannot_be_read(content: str | None, line: int | None, rule: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "lengths.csv").write_text(content)
    with pytest.raises(WorkloadError, match=rule) as raised:
        _asks(tmp_path, "prompt_tokens: {from: lengths.csv, column: in}\n")
    assert raised.value.line == line


@pytest.mark.parametrize(
    "text",
    [
        'prompt_tokens: {from: "a\\0b", column: in}',
        'questions: {corpus: "a\\0b", repeats: 1}',
        "prompt_tokens: 99999999999999999999",
        "users: 1000000000000",
        "prompt_tokens: {median: 5, sigma: 1.0, most: 99999999999}",
    ],
)
def test_names_and_numbers_that_no_machine_takes(text: str, tmp_path: Path) -> None:
    with pytest.raises(WorkloadError):
        _asks(tmp_path, text + "\n")


def test_a_length_beyond_all_numbers_is_the_most(tmp_path: Path) -> None:
    asks = _asks(tmp_path, "prompt_tokens: {median: 5, sigma: 1.0e+6, most: 77}\nanswer_tokens: 9\n")
    assert {arrival.num_prompt_tokens for arrival, _ in asks} == {1, 77}


def test_tools_and_pictures_are_part_of_the_prompt(tmp_path: Path) -> None:
    text = "prompt_tokens: 30\ntools: {num: 4, tokens: 120}\nimages: {num: 2, width: 1024, height: 1024}\n"
    asks = _asks(tmp_path, text)
    # OpenAI's own example: 1024 x 1024 is made 768 x 768, four tiles, 765 tokens.
    assert {arrival.num_prompt_tokens for arrival, _ in asks} == {30 + 4 * 120 + 2 * 765}
    assert {arrival.num_output_tokens for arrival, _ in asks} == {None}  # a call is as long as its schema wants it
    first = asks[0][1]
    assert all(ask.tools is first.tools for _, ask in asks)
    assert len({tool["name"] for tool in first.tools}) == 4
    assert len({url for _, ask in asks for url in ask.images}) == 2 * len(asks)
    given = "prompt_tokens: 30\ntools:\n  - {name: look_up, description: Finds it., parameters: {type: object, properties: {}}}\n"
    ((arrival, ask), *_) = _asks(tmp_path, given)
    assert [tool["name"] for tool in ask.tools] == ["look_up"]
    assert arrival.num_prompt_tokens == 30 + tool_tokens(ask.tools, token_counter())


def test_prefixes_are_shared(tmp_path: Path) -> None:
    asks = _asks(tmp_path, "prefix: {tokens: 500, num: 4, zipf: 1.0}\nprompt_tokens: 20\n")
    prefixes = Counter(ask.messages[0].name for _, ask in asks)
    assert {(ask.messages[0].role, ask.messages[0].num_tokens, len(ask.messages)) for _, ask in asks} == {
        ("system", 500, 2)
    }
    assert {arrival.num_prompt_tokens for arrival, _ in asks} == {520}
    counts = sorted(prefixes.values(), reverse=True)
    harmonic = 1 + 1 / 2 + 1 / 3 + 1 / 4
    assert _is_share(counts[0], len(asks), 1 / harmonic)
    assert len({ask.messages[1].name for _, ask in asks}) == len(asks)  # what is said after it is the request's own


# -- conversations -------------------------------------------------------------------------------------------


def test_a_turn_repeats_all_that_was_said_before(tmp_path: Path) -> None:
    text = (
        "users: 30\nturns: 5\nprefix: {tokens: 50, num: 3}\nprompt_tokens: {median: 20, sigma: 0.5, most: 99}\n"
        "answer_tokens: {median: 60, sigma: 0.5, most: 500}\n"
    )
    last: dict[str, tuple[Arrival, Ask]] = {}
    sessions: dict[str, list[str | None]] = defaultdict(list)
    for arrival, ask in _asks(tmp_path, text):
        assert ask.user is not None
        sessions[ask.user].append(ask.session)
        before = last.get(ask.user)
        if before is not None and before[1].session == ask.session:
            *said, heard, _ = ask.messages
            assert tuple(said) == before[1].messages
            assert (heard.role, heard.num_tokens) == ("assistant", before[0].num_output_tokens)
        else:
            assert [said.role for said in ask.messages] == ["system", "user"]
        assert arrival.num_prompt_tokens == sum(said.num_tokens for said in ask.messages)
        last[ask.user] = arrival, ask
    for found in sessions.values():
        *whole, rest = [found[start : start + 5] for start in range(0, len(found), 5)]
        assert all(len(set(part)) == 1 for part in [*whole, rest])
        assert len({part[0] for part in [*whole, rest]}) == len(whole) + 1


# -- what ----------------------------------------------------------------------------------------------------


def test_questions_are_repeated_reworded_or_new(tmp_path: Path) -> None:
    text = "questions: {num: 40, zipf: 1.0, repeats: 0.5, paraphrases: 0.3}\n"
    asks = _asks(tmp_path, text)
    by_intent: dict[str | None, Counter[str | None]] = defaultdict(Counter)
    for _, ask in asks:
        by_intent[ask.intent][ask.messages[-1].text] += 1
    popular = {f"made-{number}" for number in range(40)}
    new = {intent: texts for intent, texts in by_intent.items() if intent not in popular}
    assert all(texts.total() == 1 for texts in new.values())  # nobody asks a new one again
    assert _is_share(len(new), len(asks), 0.2)
    # Of a popular question the first wording is the repeated one: it alone comes half of the time.
    first = {intent: texts.most_common(1)[0][0] for intent, texts in by_intent.items() if texts.total() > 50}
    repeats = sum(by_intent[intent][words] for intent, words in first.items())
    asked = sum(by_intent[intent].total() for intent in first)
    assert _is_share(repeats, asked, 0.5 / 0.8)
    harmonic = sum(1 / rank for rank in range(1, 41))
    assert _is_share(by_intent["made-0"].total(), len(asks) - len(new), 1 / harmonic)


def test_labels_of_a_question_come_with_it_again(tmp_path: Path) -> None:
    text = "questions: {num: 30, repeats: 0.6, paraphrases: 0.4}\ndifficulty: {least: 0, most: 1}\ntask: {a: 1, b: 1}\n"
    of_intent: dict[str | None, set[tuple[float | None, str | None]]] = defaultdict(set)
    for _, ask in _asks(tmp_path, text):
        of_intent[ask.intent].add((ask.difficulty, ask.task))
    assert len(of_intent) == 30
    assert all(len(found) == 1 for found in of_intent.values())


def test_questions_leave_the_length_of_answers_to_the_model(tmp_path: Path) -> None:
    (arrival, ask), *_ = _asks(tmp_path, "questions: {repeats: 0.5}\n")
    assert (arrival.num_output_tokens, ask.exact_length) == (None, False)


def test_a_corpus_gives_texts_with_their_intents(tmp_path: Path) -> None:
    rows = [(f"text {number} of {number % 4}", f"intent {number % 4}") for number in range(40)]
    (tmp_path / "corpus.csv").write_text("category,text\n" + "".join(f"{intent},{text}\n" for text, intent in rows))
    text = "questions: {corpus: corpus.csv, num: 10, repeats: 0.5, paraphrases: 0.5}\n"
    asks = _asks(tmp_path, text)
    count = token_counter()
    exact = Counter(ask.messages[-1].text for _, ask in asks)
    assert {(ask.messages[-1].text, ask.intent) for _, ask in asks} <= set(rows)
    assert all(ask.messages[-1].num_tokens == count(ask.messages[-1].text or "") for _, ask in asks)
    # Half of the load falls on the ten that are asked word for word; the other half is spread over all texts of the intents.
    asked = {words for words, num in exact.items() if num > 100}
    assert len(asked) == 10


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("text\nx\n", "one of intent, category, label is needed"),
        ("text,intent\nx,\n", "must not be empty"),
        ("text,intent\n", "holds no text"),
        ("text,intent\nx,ça\n", "goes into a header"),
        ("text,intent\nx," + "a" * 201 + "\n", "goes into a header"),
        (None, "cannot be read"),
    ],
)
def test_a_corpus_that_cannot_be_used(content: str | None, rule: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "corpus.csv").write_text(content)
    with pytest.raises(WorkloadError, match=rule):
        _asks(tmp_path, "questions: {corpus: corpus.csv, repeats: 1}\n")


# -- other words --------------------------------------------------------------------------------------------

_SALTED = """
arrivals: {rate: 20/s, for: 60s}
classes:
  - {name: a, questions: {num: 30, zipf: 1.0, repeats: 0.4, paraphrases: 0.3}, prefix: {tokens: 64, num: 3}, users: 9}
  - {name: b, prompt_tokens: {least: 16, most: 90}, answer_tokens: 20, users: 5, turns: 3, tools: {num: 2, tokens: 80}}
  - {name: c, prompt_tokens: 40, answer_tokens: {least: 5, most: 9}, images: 1}
"""


def _salted(tmp_path: Path, salt: str) -> tuple[list[Arrival], list[list[str]]]:
    path = tmp_path / "work.yaml"
    path.write_text(_SALTED)
    plan = mixture_plan(read_workload(path), rate=None, duration_s=None, seed=4, salt=salt)
    book, arrivals = PromptBook(4, salt), list(plan.arrivals())
    return arrivals, [[text for _, text in book.messages(arrival)] for arrival in arrivals]


def test_another_salt_asks_the_same_in_other_words(tmp_path: Path) -> None:
    one, ones = _salted(tmp_path, "one")
    two, twos = _salted(tmp_path, "two")
    assert (one, ones) == _salted(tmp_path, "one")
    for ours, theirs in zip(one, two, strict=True):
        assert ours.ask is not None
        assert theirs.ask is not None
        for name in ("at_s", "num_prompt_tokens", "num_output_tokens", "class_name", "phase"):
            assert getattr(ours, name) == getattr(theirs, name)
        for name in ("user", "session", "intent", "task", "stream", "model"):
            assert getattr(ours.ask, name) == getattr(theirs.ask, name)
        assert [said.num_tokens for said in ours.ask.messages] == [said.num_tokens for said in theirs.ask.messages]
        assert set(ours.ask.images).isdisjoint(theirs.ask.images)
    assert _structure(ones) == _structure(twos)  # who repeats whom
    count = Tokenizer.from_pretrained("o200k_base").encode_ordinary
    beginnings = [{tuple(count(text)[:16]) for texts in each for text in texts} for each in (ones, twos)]
    assert len(beginnings[0]) > 500
    assert beginnings[0].isdisjoint(beginnings[1])
    named = [{tool["name"] for arrival in each if arrival.ask for tool in arrival.ask.tools} for each in (one, two)]
    assert named[0].isdisjoint(named[1])


def _structure(messages: list[list[str]]) -> list[list[int]]:
    """For every message the place of the first that has its words."""
    first: dict[str, int] = {}
    return [[first.setdefault(text, len(first)) for text in texts] for texts in messages]


# -- the plan ------------------------------------------------------------------------------------------------


def test_the_plan_counts_and_describes_itself(tmp_path: Path) -> None:
    plan = _plan(
        tmp_path, "arrivals: {rate: 10/s, for: 30s}\nclasses: [{name: a, users: 5, turns: 2, answer_tokens: 9}]\n"
    )
    assert plan.num_arrivals == len(list(plan.arrivals()))
    assert list(plan.arrivals()) == list(replace(plan).arrivals())  # conversations begin anew every time
    told = plan.describe()
    assert told["workload"] == "work.yaml"
    assert told["expected_count"] == 300


def _no_counter() -> Callable[[str], int]:
    raise AssertionError("no text of a corpus is there to be counted")


def test_made_questions_need_no_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "work.yaml"
    path.write_text(_STEADY + "questions: {repeats: 0.5}\n")
    plan = mixture_plan(read_workload(path), rate=None, duration_s=None, seed=0, count=_no_counter)
    assert plan.num_arrivals == len(list(plan.arrivals())) == 4000


def test_a_class_has_an_objective_of_its_own(tmp_path: Path) -> None:
    text = _STEADY + "objective: e2e<10s\nclasses:\n  - {name: a, objective: 'ttft<1s,tpot<60ms'}\n  - name: b\n"
    assert _plan(tmp_path, text).objectives == {"a": Objective(1.0, 0.06), "b": Objective(None, None, 10.0)}
    assert _plan(tmp_path, _STEADY + "objective: ttft<2s\n").objectives == {"": Objective(2.0)}
    assert _plan(tmp_path, _STEADY).objectives == {}


def test_a_workload_can_be_written_in_python(tmp_path: Path) -> None:
    keys = {"prompt_tokens": {"least": 3, "most": 9}, "model": {"large": 1.0, "small": 2.0}, "users": 4}
    plan = mixture_plan(workload_of(keys, "by_hand"), rate=5.0, duration_s=30.0, seed=1)
    (tmp_path / "work.yaml").write_text("prompt_tokens: {least: 3, most: 9}\nmodel: {large: 1, small: 2}\nusers: 4\n")
    assert list(plan.arrivals()) == list(
        _plan(tmp_path, (tmp_path / "work.yaml").read_text(), 1, rate=5.0, duration_s=30.0).arrivals()
    )
    assert plan.models == {"large", "small"}
    assert plan.describe()["workload"] == "by_hand"
    with pytest.raises(WorkloadError, match=r"by_hand: users.num: Input should be greater than or equal to 1"):
        workload_of({"users": 0}, "by_hand")
