"""The KV cache of one replica: how many blocks are free, and which prompts are in it already.

A block holds `block_size` tokens. A full block whose content is known by a hash (of its tokens and all before it)
can be shared: later prompts with the same beginning skip its computation. Blocks nobody refers to stay cached until
they are needed, least recently used first. Rules: vLLM V1's block pool (docs/fidelity.md names what is simplified).

Blocks without a hash are only counted; the queue of free blocks keeps them as runs, so that a block that was
freed earlier is taken before one that was freed later, hashed or not.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from math import inf

__all__ = ["KvCache"]


class _Run:
    """Consecutive free blocks without a hash. Only its identity counts: two runs are never equal."""

    __slots__ = ()


class KvCache:
    """`num_blocks` None means that memory is not limited."""

    def __init__(self, num_blocks: int | None, block_size: int, *, prefix_caching: bool) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.prefix_caching = prefix_caching
        self.num_free: float = inf if num_blocks is None else num_blocks
        self._references: dict[int, int] = {}  # every cached hash; 0 when the block is free
        self._free: OrderedDict[int | _Run, float] = OrderedDict()  # in the order in which blocks are taken
        if prefix_caching and num_blocks is not None:
            self._free[_Run()] = num_blocks

    @property
    def usage(self) -> float:
        """The share of blocks in use, 0 where memory is not limited."""
        return 0.0 if self.num_blocks is None else 1 - self.num_free / self.num_blocks

    def hits(self, hashes: Sequence[int], limit: int) -> int:
        """How many of the first `limit` blocks are cached, counted up to the first that is not."""
        if not self.prefix_caching:
            return 0
        references = self._references
        num = 0
        for content in hashes[:limit]:
            if content not in references:
                break
            num += 1
        return num

    def num_idle(self, hashes: Sequence[int]) -> int:
        """How many of these cached blocks are free at the moment: using them again takes them from the free ones."""
        return sum(self._references[content] == 0 for content in hashes)

    def reuse(self, content: int) -> None:
        """Refer to a cached block once more."""
        if self._references[content] == 0:
            del self._free[content]
            self.num_free -= 1
        self._references[content] += 1

    def publish(self, content: int) -> bool:
        """Give a block in use its hash; False when another block has this content already."""
        if content in self._references:
            return False
        self._references[content] = 1
        return True

    def withdraw(self, content: int) -> None:
        """Take back a hash whose block was not computed after all; the block stays in use without one."""
        del self._references[content]

    def take(self, num: int) -> None:
        """Use `num` free blocks; cached ones among them are forgotten. The caller has looked at `num_free`."""
        self.num_free -= num
        if not self.prefix_caching or self.num_blocks is None:
            return
        free = self._free
        while num > 0:
            first, available = next(iter(free.items()))
            if isinstance(first, _Run):
                used = min(num, available)
                if used == available:
                    del free[first]
                else:
                    free[first] = available - used
                num -= int(used)
            else:
                del free[first], self._references[first]
                num -= 1

    def forgets(self, num: int) -> bool:
        """Whether taking so many blocks would forget a cached one."""
        if not self.prefix_caching or self.num_blocks is None or num == 0:
            return False
        first, available = next(iter(self._free.items()))
        return not (isinstance(first, _Run) and available >= num)

    def give_back(self, num: int) -> None:
        """Free `num` blocks that have no hash."""
        if num <= 0:
            return
        self.num_free += num
        if self.prefix_caching and self.num_blocks is not None:
            self._free[_Run()] = num

    def release(self, content: int) -> None:
        """Stop referring to a hashed block; nobody's block becomes free, and stays cached."""
        self._references[content] -= 1
        if self._references[content] == 0:
            self._free[content] = 1
            self.num_free += 1
