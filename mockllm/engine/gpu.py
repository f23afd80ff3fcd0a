"""The GPUs under a replica as a monitoring agent sees them: activity, power and energy that follow the batch.

    busy   = share of the time in which steps ran
    tensor = FLOP / (peak FLOP/s * time)          dram = bytes moved / (peak bytes/s * time)
    power  = idle + (max - idle) * min(1, .1*busy + 1.5*tensor + .7*dram)   by stretch;   energy = integral of power

Work is the roofline's (`roofline.py`), time is what the steps really took, noise, stalls and drafts included. The form of
the power law is judgement after Patel et al., "Characterizing Power Management Opportunities for LLMs in the Cloud"
(ASPLOS 2024): computing prompts draws what the board may, giving tokens less and steadily, here about 60 % of the way
from idle for a small batch, and waiting alone little. All GPUs of a tensor-parallel group do the same.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from mockllm.engine.latency import StepLoad
from mockllm.engine.roofline import RooflineStepTime

__all__ = ["WINDOW_S", "Gpu", "GpuMeter", "GpuReading", "Running"]

# Rates are means over the last second: NVML averages power over 1 s (Ampere and newer, GA100 excepted) and samples
# utilisation over 1/6 to 1 s. An agent may average longer; a scrape can only be compared with what it says.
WINDOW_S = 1.0

_BUSY, _TENSOR, _DRAM = 0.1, 1.5, 0.7


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as installed. Bytes and watts; `used` is allocated once, at start-up. None: not known."""

    name: str
    memory: float
    used: float
    idle_w: float | None = None
    max_w: float | None = None


class GpuReading(NamedTuple):
    """Of each GPU of the group: shares and watts as means over the last second, joules since time 0. None: not known."""

    busy: float
    tensor: float
    dram: float
    power_w: float | None
    energy_j: float | None


class _Phase(NamedTuple):
    """A stretch of steps, from and to, with the seconds at peak that it worked."""

    started_at: float
    ended_at: float
    tensor_s: float
    dram_s: float

    @property
    def driven_s(self) -> float:
        """Its time, weighted with how far the power is from idle (0) to the maximum (1)."""
        busy_s = self.ended_at - self.started_at
        return min(busy_s, _BUSY * busy_s + _TENSOR * self.tensor_s + _DRAM * self.dram_s)

    def share_after(self, at: float) -> float:
        """The share of its time that lies after `at`."""
        if at <= self.started_at:
            return 1.0
        return max(0.0, (self.ended_at - at) / (self.ended_at - self.started_at))


# A stretch that has not ended: its start, now, the steps done (a running one by its share), the first step's load.
Running = tuple[float, float, float, StepLoad]


class GpuMeter:
    """The counters of `num_gpus` equal GPUs that run one replica; told of every stretch, read at any time."""

    def __init__(self, gpu: Gpu, num_gpus: int, roofline: RooflineStepTime) -> None:
        self.gpu, self.num_gpus = gpu, num_gpus
        self._roofline = roofline
        self._driven_s = 0.0
        self._recent: deque[_Phase] = deque()  # those that reach into the last second

    def ran(self, started_at: float, ended_at: float, num_steps: float, load: StepLoad) -> None:
        """A stretch of `num_steps` steps is over; `load` is that of its first step."""
        phase = self._phase(started_at, ended_at, num_steps, load)
        if phase is None:
            return
        self._driven_s += phase.driven_s
        self._recent.append(phase)
        while self._recent[0].ended_at <= ended_at - WINDOW_S:
            self._recent.popleft()

    def read(self, now: float, running: Running | None) -> GpuReading:
        """What the agent shows at `now`; `running` is the stretch that has not ended, as far as it is."""
        last = None if running is None else self._phase(*running)
        phases = [*self._recent, last] if last else list(self._recent)
        since = max(0.0, now - WINDOW_S)
        window_s = now - since
        busy_s = tensor_s = dram_s = driven_s = 0.0
        for phase in phases:
            share = phase.share_after(since)
            busy_s += share * (phase.ended_at - phase.started_at)
            tensor_s += share * phase.tensor_s
            dram_s += share * phase.dram_s
            driven_s += share * phase.driven_s
        total_s = self._driven_s + (last.driven_s if last else 0.0)
        idle_w, max_w = self.gpu.idle_w, self.gpu.max_w
        power_w = energy_j = None
        if idle_w is not None and max_w is not None:
            power_w = idle_w + (max_w - idle_w) * _mean(driven_s, window_s)
            energy_j = idle_w * now + (max_w - idle_w) * total_s
        return GpuReading(
            _mean(busy_s, window_s), _mean(tensor_s, window_s), _mean(dram_s, window_s), power_w, energy_j
        )

    def _phase(self, started_at: float, ended_at: float, num_steps: float, load: StepLoad) -> _Phase | None:
        """None where no time passed: steps that take none do no work that a meter could show."""
        if ended_at <= started_at:
            return None
        work = self._roofline.work(load, num_steps)
        return _Phase(started_at, ended_at, work.tensor_s, work.dram_s)


def _mean(amount_s: float, window_s: float) -> float:
    """As a share of the window: 0 before any time has passed, never above 1 by rounding or an optimistic efficiency."""
    return min(1.0, amount_s / window_s) if window_s > 0 else 0.0
