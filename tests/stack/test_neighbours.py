"""The search for the nearest question against a full search in double precision."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mockllm.stack.answers import Kept
from mockllm.stack.neighbours import Neighbours

SIZE = 16


def vectors(num: int, seed: int = 1) -> NDArray[np.float32]:
    drawn = np.random.default_rng(seed).normal(size=(num, SIZE)).astype(np.float32)
    units: NDArray[np.float32] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return units


def kept(at: float) -> Kept:
    return Kept(1, "stop", None, at, None, None)


STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "put", "ask"]), st.integers(0, 30), st.integers(0, 2)), min_size=1, max_size=80
)


@given(STEPS, st.integers(1, 12), st.sampled_from([9.5, 25.5, inf]))
@settings(max_examples=200, deadline=None)
def test_the_nearest_is_that_of_a_full_search(steps: list[tuple[str, int, int]], capacity: int, ttl_s: float) -> None:
    """One step a second. The list has the longest unused question first: (name, context, when)."""
    texts, asks = vectors(31), vectors(31, seed=2)
    neighbours, known = Neighbours(capacity), list[tuple[int, int, float]]()
    for at, (verb, name, context) in enumerate(steps):
        if verb == "put":
            neighbours.put((name, context), context, texts[name], kept(at))
            known = [entry for entry in known if entry[:2] != (name, context)]
            known = [*known, (name, context, float(at))][-capacity:]
            assert len(neighbours) == len(known)
            continue
        open_to = [entry for entry in known if entry[1] == context and at - entry[2] < ttl_s]
        cosines = [float(texts[entry[0]].astype(float) @ asks[name].astype(float)) for entry in open_to]
        found = neighbours.nearest(context, asks[name], float(at), ttl_s)
        if not open_to:
            assert found is None
            continue
        best = open_to[int(np.argmax(cosines))]
        assert found is not None
        assert (found[0].name, found[0].kept.at) == (best[:2], best[2])
        assert found[1] == pytest.approx(max(cosines), abs=1e-6)
        neighbours.use(found[0])
        known = [*(entry for entry in known if entry != best), best]


def test_memory_is_bounded_however_contexts_come_and_go() -> None:
    """Each of 40 contexts fills the cache and is then driven out by the next one, all but a few."""
    neighbours, texts = Neighbours(500), vectors(600)
    largest = 0
    for context in range(40):
        for name in range(600 if context % 2 else 300):
            neighbours.put((name, context), context, texts[name], kept(0.0))
        largest = max(largest, neighbours.num_bytes)
        assert len(neighbours) <= 500
    row = SIZE * 4
    assert largest <= 4 * 500 * row + 40 * 4 * row
    for number in range(500):
        neighbours.put(number, f"alone {number}", texts[number], kept(0.0))
    assert neighbours.num_bytes == 500 * 4 * row  # four rows is the least that a context takes
