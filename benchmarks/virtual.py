"""How many requests a second the engine and the stack carry in virtual time, one core, nothing written.

    python -m benchmarks.virtual [REQUESTS]

The same arrivals for each row: Poisson, lengths of Azure's conversations, 30 % of the questions asked before. Rows differ
only in what stands between client and model; the ratio is to the bare engine, and every row is run three times in turn,
the fastest counts.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine_line
from mockllm import Query, Request, Tenant, build_engine, build_stack, load_deployment, simulate
from mockllm.streams import Streams

_MODELS = "models: [{name: m, profile: h100-8b, replicas: {count: 4, balance: least_tokens}}]\n"
_ROWS = {
    "engine alone": _MODELS,
    "empty stack": _MODELS,
    "limits": _MODELS + "stack: [{rate_limits: {user: {requests: 100000/min}}}]\n",
    "limits, cache": _MODELS + "stack: [{rate_limits: {user: {requests: 100000/min}}}, exact_cache]\n",
    "limits, cache, queue, retry, failover": _MODELS
    + "stack: [{rate_limits: {user: {requests: 100000/min}}}, exact_cache, {priority_queue: {workers: 500}}, retry, "
    "{failover: {chain: [m]}}]\n",
}
_ROUNDS = 3
_RATE = 20.0


def _load(num: int) -> list[tuple[float, Request]]:
    luck = Streams(5)
    at = luck.generator("gaps", "").exponential(1 / _RATE, num).cumsum().tolist()
    prompts = luck.generator("prompts", "").lognormal(6.633, 0.985, num).clip(1, 14_050).astype(int).tolist()
    answers = luck.generator("answers", "").lognormal(5.019, 0.859, num).clip(1, 1_000).astype(int).tolist()
    asked = luck.generator("asked", "").integers(0, max(1, num), num).tolist()
    load = []
    for number in range(num):
        name = str(asked[number] % (number + 1) if number % 10 < 3 else number)
        query = Query(name, f"question {name}", "c", "p")
        tenant = Tenant(user=f"u{number % 100}")
        request = Request(
            f"r{number}",
            f"k{number}",
            "m",
            prompts[number],
            num_answer_tokens=answers[number],
            tenant=tenant,
            query=query,
        )
        load.append((at[number], request))
    return load


def _seconds(what: str, name: str, load: list[tuple[float, Request]]) -> float:
    deployment = load_deployment(what)
    build = build_engine if name == "engine alone" else build_stack
    serving = build(deployment, every_token=False)
    began = time.perf_counter()
    for _ in simulate(serving, load):
        pass
    return time.perf_counter() - began


def main() -> None:
    num = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    load = _load(num)
    best: dict[str, float] = {}
    with TemporaryDirectory() as folder:
        for name, text in _ROWS.items():
            (Path(folder) / f"{len(name)}.yaml").write_text(text)
        for _ in range(_ROUNDS):
            for name in _ROWS:
                took = _seconds(str(Path(folder) / f"{len(name)}.yaml"), name, load)
                best[name] = min(took, best.get(name, took))
    table = Table(title=f"{num:,} requests, four replicas; {machine_line()}")
    for column in ("between client and model", "requests/s", "time, as a ratio"):
        table.add_column(column, justify="left" if column.startswith("between") else "right")
    for name, took in best.items():
        table.add_row(name, f"{num / took:,.0f}", f"{took / best['engine alone']:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
