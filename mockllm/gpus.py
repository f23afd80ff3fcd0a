"""Every simulated GPU of a deployment, read at an instant: for `/metrics`, and for those who drive the engine themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple
from uuid import NAMESPACE_DNS, uuid5

from mockllm.engine.batching import BatchedReplica
from mockllm.engine.engine import Replica, ServedModel
from mockllm.engine.gpu import Gpu, GpuReading

__all__ = ["HOSTNAME", "SimulatedGpu", "read_gpus"]

HOSTNAME = "mockllm"  # never this machine's: whoever sees it must know that no GPU is there


class SimulatedGpu(NamedTuple):
    """One GPU: its number in the deployment, an id that stays the same from run to run, what it is and what it is doing."""

    number: int
    uuid: str
    gpu: Gpu
    reading: GpuReading


def read_gpus(models: Mapping[str, ServedModel], now: float) -> Iterator[SimulatedGpu]:
    """The GPUs at `now`, in the order of the models; none of a profile that has no GPU."""
    number = 0
    for name, replica in _replicas(models):
        if not isinstance(replica, BatchedReplica) or replica.gpus is None:
            continue
        reading = replica.gpus.read(now, replica.running_stretch(now))
        for rank in range(replica.gpus.num_gpus):
            uuid = f"GPU-{uuid5(NAMESPACE_DNS, f'{HOSTNAME}/{name}/{rank}')}"
            yield SimulatedGpu(number, uuid, replica.gpus.gpu, reading)
            number += 1


def _replicas(models: Mapping[str, ServedModel]) -> Iterator[tuple[str, Replica]]:
    """Every replica by a name of its own: the model's, where it is the only one."""
    for name, model in models.items():
        parts = model.replica.parts()
        yield from ((name if replica is model.replica else part, replica) for part, replica in parts)
