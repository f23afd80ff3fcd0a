"""Deployments drawn at random: every policy, every kind of fault and every kind of pool, with legal settings.

What is drawn are the plain values of a deployment file, so that the file road is tested too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from mockllm.deployment import Deployment, load_deployment
from mockllm.stack.table import POLICIES

__all__ = ["PROFILES", "deployments", "load_written", "stages_without_memory"]

Draw = st.SearchStrategy[Any]
Keys = dict[str, Any]

_FACTS: Keys = {"as_of": date(2026, 11, 21), "sources": [], "summary": "for a test", "model": "m"}
_SCHEDULER: Keys = {"max_num_seqs": 4, "max_num_batched_tokens": 256}
_STEP: Keys = {"b0": 0.01, "b1": 0.0001, "b2": 0.0005, "b3": 0.0}
_BATCHED: Keys = _FACTS | {"kind": "batched", "max_model_len": 2000, "step_time": _STEP, "scheduler": _SCHEDULER}
_LENGTH: Keys = {"median_tokens": 40, "sigma": 0.6}

PROFILES: dict[str, Keys] = {
    "plain": _FACTS
    | {"kind": "hosted", "max_model_len": 4000, "answer_length": _LENGTH}
    | {"latency": {"floor_s": 0.3, "per_token_s": 0.0002, "tpot_median_s": 0.02}},
    "rough": _FACTS
    | {"kind": "hosted", "max_model_len": 3000, "answer_length": _LENGTH}
    | {"overhead": {"median_s": 0.02, "sigma": 0.5}, "faultiness": {"server_error_rate": 0.1, "cut_rate": 0.1}}
    | {
        "latency": {
            "floor_s": 0.2,
            "spread_median_s": 0.4,
            "spread_sigma": 1.0,
            "spike_probability": 0.1,
            "spike_mean_s": 3.0,
            "tpot_median_s": 0.02,
            "tpot_sigma": 0.3,
            "tokens_per_chunk": 3.0,
            "gap_cv": 0.5,
        }
    },
    "tight": _BATCHED
    | {"answer_length": _LENGTH, "kv_cache": {"num_gpu_blocks": 60}, "overhead": {"median_s": 0.01, "sigma": 0.3}},
    "ranked": _BATCHED
    | {"answer_length": _LENGTH, "noise": {"step_cv": 0.1}, "kv_cache": {"num_gpu_blocks": 200}}
    | {"scheduler": _SCHEDULER | {"policy": "priority", "async_scheduling": True}},
    "drafting": _BATCHED
    | {"answer_length": _LENGTH, "kv_cache": {"prefix_caching": False}}
    | {"speculative": {"num_draft_tokens": 3, "acceptance_rate": 0.6, "draft_s": 0.002}},
}
_MODELS = ("large", "medium", "small")


def deployments(stages: Callable[[Sequence[str]], Draw] | None = None, *, hosted: bool = False) -> Draw:
    """The values of a deployment file; `stages`, of the models' names, in place of any. `hosted`: models without a queue."""
    model = _hosted_model if hosted else _model
    return st.sampled_from([1, 2, 2, 3]).flatmap(lambda num: _of_models(_MODELS[:num], stages or _stages, model))


def stages_without_memory(names: Sequence[str]) -> Draw:
    """Policies that decide about each request by its own luck alone."""
    network = st.just({"rtt": {"median": "40ms", "sigma": 0.5}, "pooled": False})
    makers = {policy: _POLICIES[policy] for policy in ("split", "route", "prompt_compression", "output_control")}
    if len(names) > 1:
        makers["cascade"] = _cascade
    one = [st.tuples(st.just(policy), maker(names)) for policy, maker in makers.items()]
    return st.lists(st.one_of(*one, st.tuples(st.just("network"), network)), max_size=4)


def load_written(keys: Mapping[str, Any], folder: Path) -> Deployment:
    """The deployment of these values, through files in `folder`."""
    for name, profile in PROFILES.items():
        if not (path := folder / f"{name}.yaml").exists():
            path.write_text(_yaml(profile | {"name": name}))
    path = folder / "any.yaml"
    path.write_text(_yaml(keys))
    return load_deployment(str(path))


class _WithoutAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(values: Mapping[str, Any]) -> str:
    return yaml.dump(dict(values), Dumper=_WithoutAliases, sort_keys=False)


def _of_models(names: Sequence[str], stages: Callable[[Sequence[str]], Draw], model: Callable[[str], Draw]) -> Draw:
    return st.fixed_dictionaries(
        {
            "seed": st.integers(0, 1000),
            "models": st.tuples(*(model(name) for name in names)).map(list),
            "stack": stages(names).map(_with_names),
            "faults": st.lists(_fault(names), max_size=4),
        }
    ).map(_without_strangers)


def _with_names(stages: list[tuple[str, Keys]]) -> list[Keys]:
    """As they stand in a file; each that wants a name of its own gets one that no other has."""
    return [
        {policy: keys | {"name": f"router-{index}"} if "name" in keys else keys}
        for index, (policy, keys) in enumerate(stages)
    ]


# -- models ------------------------------------------------------------------------------------------


def _hosted_model(name: str) -> Draw:
    return st.fixed_dictionaries({"name": st.just(name), "profile": st.sampled_from(["plain.yaml", "rough.yaml"])})


def _model(name: str) -> Draw:
    return _keys(
        {"name": st.just(name), "profile": st.sampled_from([f"{each}.yaml" for each in PROFILES])},
        price=st.just({"input": 2.0, "output": 8.0, "cached_input": 0.5}),
        replicas=st.one_of(st.integers(1, 3), _fixed_pool(), _scaled_pool(), _scheduled_pool(), _spot_pool()),
        limits=_limit(),
    )


_BALANCE = st.sampled_from(
    ["round_robin", "least_connections", "least_tokens", "least_kv", "prefix_affinity", "sticky"]
)
_COLD = st.sampled_from([0, 2, 20]).map(
    lambda total: {
        "decision": f"{total // 2}s", "provision": f"{total}s", "driver": "0s", "image": "0s", "weights_gb": 0.0,
        "init": "1s",
    }
)  # fmt: skip


def _fixed_pool() -> Draw:
    return _keys({"count": st.integers(1, 3), "balance": _BALANCE}, price_per_hour=st.just(2.0))


def _scaled_pool() -> Draw:
    scale = _keys(
        {"min": st.just(1), "max": st.integers(1, 4), "target": st.sampled_from([0.5, 2.0, 8.0])},
        policy=st.sampled_from(["reactive", "predictive"]),
        interval=_seconds(2, 5, 15),
        stabilization=_seconds(0, 10),
        signal=st.sampled_from(["requests", "running"]),
    )
    to_zero = st.just({"min": 0, "idle": "10s", "interval": "3s", "stabilization": "0s", "max": 2, "target": 3.0})
    return _keys({"autoscale": scale | to_zero, "cold_start": _COLD}, balance=_BALANCE, queue_length=st.integers(0, 5))


def _scheduled_pool() -> Draw:
    schedule = [{"at": "10s", "count": 3}, {"at": "40s", "count": 1}, {"at": "60s", "count": 2}]
    scale = {"policy": "scheduled", "min": 1, "max": 3, "schedule": schedule}
    return _keys({"autoscale": st.just(scale), "cold_start": _COLD}, balance=_BALANCE)


def _spot_pool() -> Draw:
    spot = {"loss_per_hour": st.sampled_from([0.0, 20.0, 120.0]), "notice": _seconds(0, 2, 30)}
    return _keys(
        {
            "count": st.integers(1, 3),
            "spot": _keys({"share": st.sampled_from([0.5, 1.0]), **spot}),
            "cold_start": _COLD,
        },
        balance=_BALANCE,
        queue_length=st.integers(0, 5),
    )


# -- policies ----------------------------------------------------------------------------------------


def _stages(names: Sequence[str]) -> Draw:
    makers = {policy: maker for policy, maker in _POLICIES.items() if len(names) > 1 or policy not in _NEED_TWO}
    return st.lists(
        st.sampled_from(sorted(makers)).flatmap(lambda policy: st.tuples(st.just(policy), makers[policy](names))),
        max_size=6,
    )


def _latency() -> Draw:
    return st.sampled_from([{"median": "0s"}, {"median": "20ms", "sigma": 0.5}, {"median": "400ms", "sigma": 1.0}])


def _limit() -> Draw:
    any_rate = {
        "requests": st.sampled_from(["6/min", "60/min", "5/s"]),
        "tokens": st.sampled_from(["2000/min", "20000/min"]),
        "input_tokens": st.sampled_from(["1000/min", "30000/min"]),
        "output_tokens": st.sampled_from(["300/min", "5000/min"]),
        "concurrency": st.integers(1, 5),
    }
    kinds = st.lists(st.sampled_from(sorted(any_rate)), min_size=1, max_size=3, unique=True)
    return kinds.flatmap(
        lambda found: _keys(
            {kind: any_rate[kind] for kind in found},
            reserve_output=st.booleans(),
            burst=_seconds(20, 60),
        )
    )


def _instead(names: Sequence[str]) -> Draw:
    others = st.sampled_from(names).map(lambda name: {"model": name})
    queue = _seconds(1, 10, 60).map(lambda wait: [{"queue": wait}])
    steps = st.lists(st.one_of(st.just({"stale": True}), others), max_size=2)
    return st.tuples(steps, st.one_of(st.just([]), queue), steps).map(lambda parts: [*parts[0], *parts[1], *parts[2]])


def _rate_limits(names: Sequence[str]) -> Draw:
    scopes = st.lists(st.sampled_from(["organization", "key", "user", "feature"]), min_size=1, max_size=3, unique=True)
    return scopes.flatmap(lambda found: _keys(dict.fromkeys(found, _limit()), instead=_instead(names)))


def _keyed_cache(names: Sequence[str], **more: Draw) -> Draw:
    ttl, capacity = _seconds(1, 20, 600), st.sampled_from([1, 3, 100])
    return _keys({}, ttl=ttl, capacity=capacity, latency=_latency(), tokens_per_s=st.just(50.0), **more)


def _semantic_cache(names: Sequence[str]) -> Draw:
    return _keys(
        {"threshold": st.sampled_from([0.5, 0.8, 1.0])},
        stale_threshold=st.sampled_from([0.0, 0.4]),
        ttl=_seconds(1, 20, 600),
        capacity=st.sampled_from([1, 3, 100]),
        embedding=_latency(),
        tokens_per_s=st.just(50.0),
    )


def _static_cache(names: Sequence[str]) -> Draw:
    return _keys(
        {"top": st.integers(1, 3), "period": _seconds(5, 30)},
        questions=st.just([{"ask": "How do I reset my password", "tokens": 20}]),
        latency=_latency(),
        tokens_per_s=st.just(50.0),
    )


def _priority_queue(names: Sequence[str]) -> Draw:
    one = _keys({}, timeout=_seconds(0, 1, 20), length=st.integers(1, 4))
    return _keys(
        {"workers": st.integers(1, 5)},
        length=st.integers(1, 10),
        shed=st.sampled_from(["newest", "oldest", "lowest"]),
        ageing=_seconds(0, 5),
        P0=one,
        P1=one,
        P2=one,
    )


def _retry(names: Sequence[str]) -> Draw:
    budget = _keys({}, share=st.sampled_from([0.0, 0.3]), window=_seconds(5), reserve=st.just("30/min"))
    return _keys(
        {"attempts": st.integers(1, 5)},
        base=_seconds(0, 0.2, 2),
        jitter=st.sampled_from(["full", "equal"]),
        budget=st.one_of(st.none(), budget),
        max_retry_after=_seconds(0, 5, 60),
    )


def _cascade(names: Sequence[str]) -> Draw:
    rungs = st.permutations(names).map(
        lambda order: [{"model": name, "skill": 0.3 + 0.4 * rank} for rank, name in enumerate(order)]
    )
    return _keys({"models": rungs, "threshold": st.sampled_from([0.0, 0.6, 1.0])}, name=_WANTED)


def _split(names: Sequence[str]) -> Draw:
    one = st.sampled_from(names)
    ways = [
        st.dictionaries(one, st.sampled_from([0.5, 1.0, 3.0]), min_size=1).map(lambda found: {"weights": found}),
        st.tuples(one, one).map(
            lambda two: {"arms": {"a": {"model": two[0], "weight": 1.0}, "b": {"model": two[1], "weight": 2.0}}}
        ),
        st.tuples(one, one).map(
            lambda two: {"rollout": {"old": two[0], "new": two[1], "steps": [["10s", 0.3], ["50s", 1.0]]}}
        ),
    ]
    shadow = _keys({"model": one, "share": st.sampled_from([0.3, 1.0])})
    beside = _keys({}, by=st.sampled_from(["user", "request"]), name=_WANTED, shadow=shadow)
    return st.tuples(st.one_of(ways), beside).map(lambda parts: parts[0] | parts[1])


def _route(names: Sequence[str]) -> Draw:
    one = st.sampled_from(names)
    law = {"latency": _seconds(0, 0.02, 1), "price": st.just(0.001), "error_rate": st.sampled_from([0.0, 0.3])}
    classifier = _keys({}, **law)
    by_task = _keys({"code": one}, math=one, translation=one)
    ways = st.one_of(
        _keys({"by": st.just("complexity"), "below": one.map(lambda name: {0.4: name})}, classifier=classifier),
        _keys({"by": st.just("task"), "models": by_task}, classifier=classifier),
        _keys({"by": st.just("tier"), "models": _keys({"free": one})}),
    )
    return st.tuples(ways, _keys({"otherwise": one}, name=_WANTED)).map(lambda parts: parts[0] | parts[1])


def _prompt_compression(names: Sequence[str]) -> Draw:
    return _keys(
        {"ratio": st.sampled_from([1.5, 4.0]), "min_tokens": st.sampled_from([50, 300])},
        keep_prefix=st.sampled_from([0, 40]),
        latency_per_1000_tokens=_seconds(0, 0.5),
    ).map(lambda keys: {"latency_per_1000_tokens": "0s"} | keys)


def _output_control(names: Sequence[str]) -> Draw:
    rule = st.tuples(
        _keys({}, urgency=st.sampled_from(["P0", "P2"]), feature=st.just("chat"), model=st.sampled_from(names)),
        st.sampled_from([{"max_tokens": 5}, {"concise": 0.5}, {"structured": 0.2, "max_tokens": 30}]),
    )
    return _keys({"rules": st.lists(rule.map(lambda parts: parts[0] | parts[1]), min_size=1, max_size=3)})


def _dependencies(names: Sequence[str]) -> Draw:
    service = st.sampled_from([{"median": "20ms", "sigma": 0.5}, {"mean": "300ms"}, {"median": "3s"}])
    station = {"servers": st.integers(1, 3), "service": service}
    pool = {"pool": st.integers(1, 2), "pool_timeout": _seconds(0.1, 2)}
    share = st.sampled_from([0.4, 1.0])
    cdn = _keys({"hit_share": st.sampled_from([0.0, 0.5]), "hit": service, "origin": _keys(station, **pool)})
    database = _keys(station, replicas=st.integers(0, 2), write=service, share=share, **pool)
    some = _keys({"vector_store": _keys(station, share=share, **pool)}, cdn=cdn, database=database)
    return st.tuples(some, _keys({}, calls=st.sampled_from(["series", "parallel"]))).map(
        lambda parts: parts[0] | parts[1]
    )


def _edge(names: Sequence[str]) -> Draw:
    rules = _keys(
        {"share": st.sampled_from([0.5, 1.0])},
        max_difficulty=st.just(0.5),
        max_prompt_tokens=st.just(300),
        max_in_flight=st.integers(1, 3),
        name=_WANTED,
    )
    two = st.permutations(names).map(lambda order: {"local": order[0], "cloud": order[1]})
    return st.tuples(two, rules).map(lambda parts: parts[0] | parts[1])


def _failover(names: Sequence[str]) -> Draw:
    breaker = _keys(
        {"min_calls": st.integers(1, 4), "probes": st.integers(1, 2)},
        window=_seconds(5, 30),
        cooldown=_seconds(1, 20),
        failure_share=st.sampled_from([0.3, 1.0]),
    )
    beside = _keys(
        {},
        first_token_timeout=_seconds(0.3, 1, 5),
        breaker=breaker,
        health_check=_seconds(0.5, 5),
        when_all_down=st.sampled_from(["try", "refuse"]),
    )
    orders = st.permutations(names).map(list)
    chain = st.tuples(orders, _keys({}, name=_WANTED)).map(lambda parts: {"chain": parts[0]} | parts[1])
    turns = [[*names[index:], *names[:index]] for index in range(len(names))]
    return st.tuples(st.one_of(chain, st.just({"chains": turns})), beside).map(lambda parts: parts[0] | parts[1])


def _network(names: Sequence[str]) -> Draw:
    rtt = st.sampled_from(["in_region", "transcontinental", {"median": "40ms", "sigma": 0.0}])
    return _keys(
        {},
        rtt=rtt,
        regions=st.just({"eu": "transcontinental"}),
        models=st.just([names[0]]),
        tls=st.sampled_from(["none", "tls1.2", "tls1.3"]),
        pooled=st.booleans(),
        pool_of=st.sampled_from(["key", "user", "everybody"]),
        connections=st.sampled_from([1, 2, 100]),
        idle_timeout=_seconds(0.5, 5),
    )


def _hedge(names: Sequence[str]) -> Draw:
    when = st.one_of(
        _keys({"delay": _seconds(0.05, 0.5, 2)}), st.sampled_from([0.5, 0.9]).map(lambda share: {"quantile": share})
    )
    beside = _keys({"budget": st.sampled_from([0.1, 1.0])}, models=st.just([names[0]]), to=st.sampled_from(names))
    return st.tuples(when, beside).map(lambda parts: parts[0] | parts[1])


_POLICIES: dict[str, Callable[[Sequence[str]], Draw]] = {
    "static_cache": _static_cache,
    "exact_cache": lambda names: _keyed_cache(names, coalesce=st.booleans()),
    "user_cache": _keyed_cache,
    "semantic_cache": _semantic_cache,
    "rate_limits": _rate_limits,
    "priority_queue": _priority_queue,
    "retry": _retry,
    "cascade": _cascade,
    "split": _split,
    "route": _route,
    "prompt_compression": _prompt_compression,
    "output_control": _output_control,
    "dependencies": _dependencies,
    "edge": _edge,
    "failover": _failover,
    "network": _network,
    "hedge": _hedge,
}
_NEED_TWO = ("cascade", "edge")
assert set(_POLICIES) == set(POLICIES), "a policy that nobody tries in combination with the others"


# -- faults ------------------------------------------------------------------------------------------


def _fault(names: Sequence[str]) -> Draw:
    return st.sampled_from(sorted(_FAULTS)).flatmap(
        lambda kind: st.tuples(_when(kind), _FAULTS[kind], _whom(kind, names)).map(
            lambda parts: {"kind": kind} | parts[0] | parts[1] | parts[2]
        )
    )


def _when(kind: str) -> Draw:
    lasting = _keys({"for": _seconds(1, 10, 40)})
    how_long = lasting if kind in ("stall", "outage") else st.one_of(lasting, lasting, st.just(dict[str, Any]()))
    return st.tuples(_keys({}, at=_seconds(0, 5, 30, 61.5)), how_long).map(lambda parts: parts[0] | parts[1])


def _whom(kind: str, names: Sequence[str]) -> Draw:
    model = st.sampled_from(names).map(lambda name: {"model": name})
    replica = st.sampled_from(names).map(lambda name: {"model": name, "replica": f"{name}-0"})
    if kind in ("brownout", "stall"):
        return st.one_of(st.just({}), model, replica)
    some = _keys({}, share=st.sampled_from([0.3, 0.8]), region=st.just("eu"))
    whole = st.tuples(st.one_of(st.just({}), model), some).map(lambda parts: parts[0] | parts[1])
    return st.one_of(whole, replica) if kind == "outage" else whole


def _without_strangers(keys: Keys) -> Keys:
    """A fault of a replica strikes the whole model, where that has no replicas with names."""
    pools = {model["name"] for model in keys["models"] if "replicas" in model}
    for fault in keys["faults"]:
        if "replica" in fault and fault["model"] not in pools:
            del fault["replica"]
    return keys


_AFTER = st.sampled_from([1, 10, 60]).map(lambda num: {"after_tokens": num})
_FAULTS: dict[str, Draw] = {
    "outage": st.sampled_from([{"status": 503}, {"status": "reset"}]),
    "refuse_connections": st.just({}),
    "reset": st.just({}),
    "errors": st.sampled_from([{"status": 500}, {"status": 404}, {"status": 529, "retry_after": "2s"}]),
    "rate_limit_storm": st.just({"retry_after": "3s"}),
    "slow_first_token": st.sampled_from([{"delay": "300ms"}, {"delay": "4s"}]),
    "brownout": st.sampled_from([{"factor": 1.0}, {"factor": 5.0}]),
    "stall": st.just({}),
    "cut": _AFTER,
    "truncate": _AFTER,
    "in_band_error": _AFTER,
    "garbled": _AFTER,
    "duplicate_finish": st.just({}),
    "slow_headers": st.just({"delay": "1s"}),
}


# -- small things ------------------------------------------------------------------------------------

_WANTED = st.just(True)  # a name of its own


def _keys(always: dict[str, Draw] | None = None, **sometimes: Draw) -> Draw:
    """Some of the keys."""
    return st.fixed_dictionaries(always or {}, optional=sometimes)


def _seconds(*choices: float) -> Draw:
    return st.sampled_from([f"{seconds:g}s" for seconds in choices])
