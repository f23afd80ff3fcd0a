"""How one served model behaves, as a strict file: the schema of a profile.

An unknown key, a duplicate key or a value outside its range is an error that names file, line, key, value and rule.
Every number of a bundled profile carries its source in the file.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mockllm.fields import Count, Name, Seconds, Share, Spread, Strict
from mockllm.hardware import HostModel

__all__ = ["BatchedProfile", "HostedProfile", "Profile"]


class LengthModel(Strict):
    """Output lengths when the request does not fix them."""

    median_tokens: Annotated[float, Field(ge=1)]
    sigma: Annotated[float, Field(ge=0)]


class ReasoningModel(Strict):
    """Reasoning tokens before the answer, lognormal, where the client asks for them or `always`.

    The default is judgement; production traffic of a reasoning model has 1,133 output tokens at the median and
    5,848 at p99, reasoning included (ServeGen, deepseek-r1).
    """

    median_tokens: Annotated[float, Field(ge=1)] = 400.0
    sigma: Spread = 0.8
    always: bool = False


class OverheadModel(Strict):
    median_s: Seconds = 0.0
    sigma: Annotated[float, Field(ge=0)] = 0.0


class _ProfileBase(Strict):
    name: Name
    model: Annotated[str, Field(min_length=1, max_length=200)]
    summary: str
    as_of: date
    sources: list[str]
    max_model_len: Count
    answer_length: LengthModel
    reasoning: ReasoningModel = ReasoningModel()
    overhead: OverheadModel = OverheadModel()


class StepTimeModel(Strict):
    """Seconds: b0 a step, b1 a prefill token, b2 a decode token, b3 a token in the KV cache."""

    b0: Seconds
    b1: Seconds
    b2: Seconds
    b3: Seconds


class HardwareModel(Strict):
    """A roofline: which GPU, which model, over how many GPUs, and what the host adds."""

    gpu: str
    llm: str
    tensor_parallel: Count = 1
    host: HostModel = HostModel()


class SchedulerModel(Strict):
    """vLLM's options under vLLM's names. `async_scheduling`: an arrival joins the step after next."""

    max_num_seqs: Count
    max_num_batched_tokens: Count
    chunked_prefill: bool = True
    long_prefill_token_threshold: Annotated[int, Field(ge=0)] = 0
    policy: Literal["fcfs", "priority"] = "fcfs"
    async_scheduling: bool = False


class KvCacheModel(Strict):
    """`num_gpu_blocks` null: derived from the GPU's memory, or unlimited with a linear step time."""

    block_size: Count = 16
    num_gpu_blocks: Count | None = None
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    activations_gib: Annotated[float, Field(ge=0)] = 1.5
    prefix_caching: bool = True


class NoiseModel(Strict):
    """Step time varies by `step_cv`; with `stall_probability` a step is longer by a uniform draw between the two."""

    step_cv: Annotated[float, Field(ge=0, le=1)] = 0.0
    stall_probability: Share = 0.0
    stall_min_s: Seconds = 0.0
    stall_max_s: Seconds = 0.0

    @model_validator(mode="after")
    def _shortest_first(self) -> NoiseModel:
        if self.stall_min_s > self.stall_max_s:
            raise ValueError(f"stall_min_s {self.stall_min_s} must not exceed stall_max_s {self.stall_max_s}")
        return self


class SpeculativeModel(Strict):
    """Drafts: `num_draft_tokens` a step, each accepted with `acceptance_rate` given the one before was."""

    num_draft_tokens: Count
    acceptance_rate: Share
    draft_s: Seconds = 0.0


class BatchedProfile(_ProfileBase):
    """A GPU replica with continuous batching: either four numbers (`step_time`) or a roofline (`hardware`)."""

    kind: Literal["batched"]
    step_time: StepTimeModel | None = None
    hardware: HardwareModel | None = None
    scheduler: SchedulerModel
    kv_cache: KvCacheModel = KvCacheModel()
    noise: NoiseModel = NoiseModel()
    speculative: SpeculativeModel | None = None

    @model_validator(mode="after")
    def _one_step_time(self) -> BatchedProfile:
        if (self.step_time is None) == (self.hardware is None):
            raise ValueError("give either step_time (four numbers) or hardware (a roofline), and not both")
        return self

    @model_validator(mode="after")
    def _scheduler_can_run_every_request(self) -> BatchedProfile:
        limits = self.scheduler
        tokens_a_step = 1 + (self.speculative.num_draft_tokens if self.speculative else 0)
        if limits.max_num_batched_tokens < limits.max_num_seqs * tokens_a_step:
            raise ValueError(
                f"scheduler.max_num_batched_tokens {limits.max_num_batched_tokens} must be at least "
                f"max_num_seqs {limits.max_num_seqs} * {tokens_a_step}: that many tokens every running sequence takes"
            )
        if not limits.chunked_prefill and limits.max_num_batched_tokens < self.max_model_len:
            raise ValueError(
                f"scheduler.max_num_batched_tokens {limits.max_num_batched_tokens} must be at least "
                f"max_model_len {self.max_model_len} when chunked_prefill is off: a longer prompt would wait for ever"
            )
        return self


class ColdStartModel(Strict):
    """With `probability` the first token waits for a model that must be loaded first: a lognormal wait."""

    probability: Share
    median_s: Seconds
    sigma: Spread = 0.0


class HostedLatencyModel(Strict):
    """See `mockllm.engine.hosted` for the formula; times in seconds."""

    floor_s: Seconds
    spread_median_s: Seconds = 0.0
    spread_sigma: Annotated[float, Field(ge=0)] = 0.0
    per_token_s: Seconds = 0.0
    per_token_squared_s: Seconds = 0.0
    spike_probability: Share = 0.0
    spike_mean_s: Seconds = 0.0
    tpot_median_s: Seconds
    tpot_sigma: Annotated[float, Field(ge=0)] = 0.0
    tokens_per_chunk: Annotated[float, Field(ge=1)] = 1.0
    gap_cv: Annotated[float, Field(ge=0)] = 0.0
    stall_probability: Share = 0.0
    stall_mean_tpots: Annotated[float, Field(ge=0)] = 0.0
    cold_starts: Annotated[tuple[ColdStartModel, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _cold_starts_are_shares(self) -> HostedLatencyModel:
        if (total := sum(start.probability for start in self.cold_starts)) > 1:
            raise ValueError(f"the probabilities of cold_starts add up to {total}; they must not exceed 1")
        return self


class FaultinessModel(Strict):
    server_error_rate: Share = 0.0
    cut_rate: Share = 0.0


class HostedProfile(_ProfileBase):
    """A hosted API seen from outside."""

    kind: Literal["hosted"]
    latency: HostedLatencyModel
    faultiness: FaultinessModel = FaultinessModel()


Profile = Annotated[BatchedProfile | HostedProfile, Field(discriminator="kind")]
