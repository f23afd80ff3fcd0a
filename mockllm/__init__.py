"""A mock LLM server with queue physics. The engine is told the time: it runs behind HTTP and in virtual time alike.

Read first: `model.py`, `engine/engine.py`, `engine/batching.py`, `simulate.py`, `server/driver.py`.
"""

from mockllm.building import build_engine, build_stack
from mockllm.clock import ManualClock, RealClock
from mockllm.deployment import Deployment, bundled_deployments, bundled_profiles, load_deployment, load_profile
from mockllm.engine.engine import Engine, ServedModel, Serving
from mockllm.errors import MockError
from mockllm.gpus import SimulatedGpu, read_gpus
from mockllm.model import Began, Chunk, Cut, Emission, Finished, Refused, Request, Tokens, chunks_of
from mockllm.passage import Damage, Passage, Query, Tenant
from mockllm.simulate import drive, simulate
from mockllm.state import state_of
from mockllm.streams import Streams
from mockllm.tool_lengths import ToolLengths

__all__ = [
    "Began",
    "Chunk",
    "Cut",
    "Damage",
    "Deployment",
    "Emission",
    "Engine",
    "Finished",
    "ManualClock",
    "MockError",
    "Passage",
    "Query",
    "RealClock",
    "Refused",
    "Request",
    "ServedModel",
    "Serving",
    "SimulatedGpu",
    "Streams",
    "Tenant",
    "Tokens",
    "ToolLengths",
    "build_engine",
    "build_stack",
    "bundled_deployments",
    "bundled_profiles",
    "chunks_of",
    "drive",
    "load_deployment",
    "load_profile",
    "read_gpus",
    "simulate",
    "state_of",
]
