"""The dictionary: why does tool X say 391?"""

from __future__ import annotations

from harness.dictionary.aiperf import aiperf
from harness.dictionary.figures import ToolFigures
from harness.dictionary.genai_bench import genai_bench
from harness.dictionary.guidellm import guidellm
from harness.dictionary.sglang import sglang
from harness.dictionary.sight import Sight
from harness.dictionary.vllm import vllm
from harness.store import Manifest
from harness.table import Table

__all__ = ["dictionary"]


def dictionary(table: Table, manifest: Manifest) -> list[ToolFigures]:
    """What each tool would have said of these records; empty when no request was sent, or nothing was measured: a modelled run
    had no client."""
    sight = Sight(table)
    if not sight.sent.any() or manifest.clock == "virtual":
        return []
    return [tool(sight) for tool in (vllm, sglang, guidellm, aiperf, genai_bench)]
