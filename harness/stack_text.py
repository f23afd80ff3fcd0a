"""What the policies of a simulated stack did, as text for a terminal: from `stack.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

from harness.costs.replicas import replica_usd

__all__ = ["stack_text"]

_WIDTH = 118
_MOST_SHOWN = 8  # of many things in one line, the most frequent


def stack_text(document: Mapping[str, Any]) -> str:
    """A line or more a stage, then who answered and what it cost."""
    state, clients = document["state"], document["clients"]
    rows = [(stage["name"], _stage(stage, clients)) for stage in state["stages"]]
    rows += [(f"replicas of {model['name']}", _facts(model["pool"])) for model in state["models"] if model.get("pool")]
    rows += list(_totals(state, clients))
    shown = [(name, text) for name, text in rows if text]
    width = max((len(name) for name, _ in shown), default=0)
    lines = ["  stack"]
    for name, text in shown:
        first, *more = wrap(text, _WIDTH - width - 4)
        lines += [f"  {name:<{width}}  {first}", *(f"  {'':<{width}}  {line}" for line in more)]
    return "\n".join(lines)


def _stage(stage: Mapping[str, Any], clients: Mapping[str, Any]) -> str:
    name, parts = stage["name"], [_facts(stage["state"])]
    if num := clients["num_waited"].get(name):
        parts.append(f"held up {num:,} for {clients['waited_s'][name] / num:,.3f} s on average")
    if saved := clients["saved_usd"].get(name):
        parts.append(f"saved {_usd(saved)}")
    return "; ".join(part for part in parts if part)


def _facts(state: Mapping[str, Any]) -> str:
    """Plain values of a state: counters first, then what else is a number or a few. Nothing counted is nothing said."""
    others = {name: value for name, value in state.items() if name != "counts"}
    return ", ".join([*_named(state.get("counts", {})), *_named(others)])


def _named(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        words = str(name).replace("_", " ")
        if isinstance(value, Mapping):
            inner = {key: each for key, each in value.items() if isinstance(each, int | float) and each}
            if inner:
                yield f"{words} ({_most(inner)})"
        elif isinstance(value, str):
            yield f"{words} {value}"
        elif isinstance(value, float) or (isinstance(value, int) and value):
            yield f"{words} {_number(value)}"


def _totals(state: Mapping[str, Any], clients: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    answered, outcomes = clients["answered_by"], clients["cache_outcomes"]
    total = sum(answered.values())
    if total:
        by_size = sorted(answered.items(), key=lambda item: -item[1])[:_MOST_SHOWN]
        yield "answered by", ", ".join(f"{name} {num:,} ({num / total:.1%})" for name, num in by_size)
    if looked := sum(outcomes.values()):
        hits = looked - outcomes.get("miss", 0)
        wrong, unlabelled = clients["num_wrong_hits"], clients["num_unlabelled_hits"]
        judged = f"{wrong:,} of {hits - unlabelled:,} hits wrong" if hits > unlabelled or not hits else ""
        unknown = f"of {unlabelled:,} nobody knows: the load says no intents" if unlabelled else ""
        yield "caches", f"{hits / looked:.1%} of {looked:,} hit; {', '.join(filter(None, (judged, unknown)))}"
    yield "calls", f"{state['calls']:,} to models for {clients['num']:,} requests"
    replicas = replica_usd(state)
    cost = state["cost_usd"] + replicas
    if cost and clients["num"]:
        saved = sum(clients["saved_usd"].values())
        parts = [f"{_usd(cost)}, {_usd(1000 * cost / clients['num'])} per 1,000 requests"]
        if replicas:
            parts.append(f"{_usd(state['cost_usd'])} for calls and {_usd(replicas)} for replicas")
        if saved:
            parts.append(f"saved {_usd(saved)}" + (" of calls" if replicas else ""))
        yield "cost", "; ".join(parts)


def _most(counts: Mapping[str, float]) -> str:
    by_size = sorted(counts.items(), key=lambda item: -item[1])
    rest = f" and {len(by_size) - _MOST_SHOWN} more" if len(by_size) > _MOST_SHOWN else ""
    return ", ".join(f"{name} {_number(num)}" for name, num in by_size[:_MOST_SHOWN]) + rest


def _number(value: float) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"


def _usd(value: float) -> str:
    return f"${value:,.2f}" if abs(value) >= 1 else f"${value:.3g}"
