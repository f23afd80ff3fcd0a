"""`mockllm explain`: a deployment in words, in the order in which a request passes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap

from mockllm.building import build_engine
from mockllm.deployment import Deployment
from mockllm.engine.batching import BatchedReplica
from mockllm.engine.engine import ServedModel
from mockllm.fields import duration_text
from mockllm.stack.fault_kinds import Fault
from mockllm.stack.pool import Pool
from mockllm.stack.prices import Price
from mockllm.stack.stack import Stack

__all__ = ["explained"]


def explained(deployment: Deployment, width: int = 110) -> str:
    """The text, in lines of at most `width`. Raises DeploymentError where the parts do not fit together."""
    serving = build_engine(deployment, every_token=False)
    lines = [f"{deployment.name}: {deployment.summary}" if deployment.summary else deployment.name]
    lines += ["", f"Clients ask for {', '.join(serving.models)}.", ""]
    if isinstance(serving, Stack) and serving.stages:
        lines.append("A request passes, in this order, and its answer the same way back:")
        numbered = [(f"{number:>2}  {stage.name}", stage.describe()) for number, stage in enumerate(serving.stages, 1)]
        lines += _columns(numbered, width)
    else:
        lines.append("A request passes no policy: it goes to its model at once.")
    lines += ["", "Models:"]
    models = [(name, "; ".join(_about(deployment, name, model))) for name, model in serving.backends.items()]
    lines += _columns(models, width)
    if deployment.faults:
        lines += ["", "Faults, by the run's clock, which begins with the first request:"]
        lines += _columns([_fault(fault) for fault in deployment.faults], width)
    return "\n".join(lines)


def _columns(rows: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    """Names to the left, and what there is to say of each to the right, over as many lines as it takes."""
    indent = 4 + max(len(name) for name, _ in rows)
    for name, text in rows:
        first, *others = wrap(text, max(30, width - indent)) or [""]
        yield f"  {name:<{indent - 2}}{first}".rstrip()
        yield from (" " * indent + line for line in others)


def _fault(fault: Fault) -> tuple[str, str]:
    begins = fault.at or 0.0
    ends = "on" if fault.lasts is None else f"to {duration_text(begins + fault.lasts)}"
    beside = {name: value for name, value in fault.written().items() if name not in ("at", "for", "kind")}
    how = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in beside.items())
    return f"{duration_text(begins)} {ends}", f"{fault.kind.replace('_', ' ')}: {how or 'everybody'}"


def _about(deployment: Deployment, name: str, model: ServedModel) -> Iterator[str]:
    profile = deployment.profiles[name]
    yield f"{profile.name} ({profile.summary})" if profile.summary else profile.name
    if isinstance(model.replica, Pool):
        yield model.replica.describe()
    replicas = [replica for _, replica in model.replica.parts() if isinstance(replica, BatchedReplica)]
    if replicas and (blocks := replicas[0].kv.num_blocks) is not None:
        yield f"{blocks * replicas[0].kv.block_size:,} tokens of KV cache a replica"
    entry = deployment.models.get(name)
    if entry is not None and entry.limits is not None:
        yield f"its provider allows {entry.limits}"
    if entry is not None and entry.price != Price():
        yield f"${entry.price.input:g} in and ${entry.price.output:g} out per million tokens"
