"""A mock LLM server with queue physics. The engine is told the time: it runs behind HTTP and in virtual time alike.

Read first: `model.py`, `engine/engine.py`, `engine/batching.py`, `simulate.py`, `server/driver.py`.
"""

from mockllm.clock import ManualClock, RealClock
from mockllm.deployment import (
    Deployment,
    build_engine,
    bundled_deployments,
    bundled_profiles,
    load_deployment,
    load_profile,
)
from mockllm.engine.engine import Engine, Serving
from mockllm.model import Chunk, Cut, Emission, Finished, Refused, Request, Tokens, chunks_of
from mockllm.simulate import simulate

__all__ = [
    "Chunk",
    "Cut",
    "Deployment",
    "Emission",
    "Engine",
    "Finished",
    "ManualClock",
    "RealClock",
    "Refused",
    "Request",
    "Serving",
    "Tokens",
    "build_engine",
    "bundled_deployments",
    "bundled_profiles",
    "chunks_of",
    "load_deployment",
    "load_profile",
    "simulate",
]
