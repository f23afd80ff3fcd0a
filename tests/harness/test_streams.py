"""Named streams: keyed draws depend on nothing but their names."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.streams import keyed_integer, keyed_uniform, stream
from tests.harness.builders import LAW


@LAW
@given(st.integers(-(2**70), 2**70), st.text(max_size=20), st.text(max_size=20), st.integers(1, 64))
def test_a_keyed_integer_is_the_hash_of_its_names(seed: int, purpose: str, key: str, size: int) -> None:
    digest = hashlib.blake2b(
        b"\0".join([str(seed).encode(), purpose.encode(), key.encode()]), digest_size=size
    ).digest()
    assert keyed_integer(seed, purpose, key, size=size) == sum(byte << 8 * place for place, byte in enumerate(digest))


def test_keyed_integers_are_uniform() -> None:
    draws = np.array([keyed_integer(3, "lot", str(key)) / 2**64 for key in range(5000)])
    assert stats.kstest(draws, "uniform").pvalue > 1e-3


@LAW
@given(st.integers(0, 2**64), st.text(max_size=20), st.text(max_size=20))
def test_a_keyed_uniform_is_the_keyed_integer_as_a_share(seed: int, purpose: str, key: str) -> None:
    drawn = keyed_uniform(seed, purpose, key)
    assert 0 < drawn < 1
    assert drawn == pytest.approx(keyed_integer(seed, purpose, key) / 2**64, abs=2**-51)


def test_equal_names_give_equal_draws_and_others_do_not() -> None:
    first = stream(7, "arrivals").random(8)
    assert (stream(7, "arrivals").random(8) == first).all()
    assert not (stream(8, "arrivals").random(8) == first).any()
    assert not (stream(7, "prompt tokens").random(8) == first).any()


def test_draws_from_one_stream_do_not_move_another() -> None:
    one, other = stream(7, "a"), stream(7, "b")
    other.random(1000)
    assert one.random() == stream(7, "a").random()


@pytest.mark.parametrize("seeds", [(0, 1), (1, 10), (12, 1)])
def test_streams_of_two_seeds_are_uncorrelated(seeds: tuple[int, int]) -> None:
    first, second = (stream(seed, "arrivals").random(4000) for seed in seeds)
    assert stats.pearsonr(first, second).pvalue > 1e-3
