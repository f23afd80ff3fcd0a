"""Prompts as the engine counts them: tokens, names of blocks, prefixes to cache."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from mockllm.call import Call, Segment
from mockllm.content.prompt import read_prompt
from mockllm.tokens import block_hashes, o200k


def prompt_of(*texts: str) -> tuple[int, ...]:
    return read_prompt(Call("m", tuple(map(Segment, texts))), o200k()).block_hashes(4)


def test_a_conversation_begins_like_the_turn_before_it() -> None:
    turn = ["You are a helpful assistant.", "What is a harbor and who keeps it?"]
    answer = "The quiet harbor keeps the small ship near the town."
    before, after = prompt_of(*turn, answer), prompt_of(*turn, answer, "And what about the river?")
    assert after[: len(before)] == before
    assert len(after) > len(before)


@given(st.lists(st.integers(0, 200_000), max_size=60), st.integers(0, 59), st.integers(1, 16))
def test_a_block_is_named_by_everything_up_to_its_end(ids: list[int], changed: int, size: int) -> None:
    names = block_hashes(ids, size)
    assert len(names) == len(ids) // size
    if changed < len(ids):
        other = [*ids[:changed], ids[changed] + 1, *ids[changed + 1 :]]
        same = [a == b for a, b in zip(names, block_hashes(other, size), strict=True)]
        assert same == [block < changed // size for block in range(len(names))]


def test_names_of_blocks_are_the_same_in_another_process() -> None:
    code = "from mockllm.tokens import block_hashes; print(block_hashes(range(64), 16))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(block_hashes(range(64), 16))


def test_a_picture_takes_its_tokens_and_is_the_same_picture_again() -> None:
    picture, other = Segment("data:image/png;base64,AAAA", 100), Segment("data:image/png;base64,AAAB", 100)
    one, same, else_ = (read_prompt(Call("m", (each,)), o200k()) for each in (picture, picture, other))
    assert one.num_tokens == 100
    assert one.block_hashes(16) == same.block_hashes(16) != else_.block_hashes(16)


def test_marks_and_the_boundaries_before_them_are_the_points_of_the_cache() -> None:
    segments = [Segment(f"piece number {number}", cache_ttl_s=300.0 if number == 24 else None) for number in range(30)]
    points = read_prompt(Call("m", tuple(segments), user_marks_cache=True), o200k()).cache_points
    assert points is not None
    assert [point.ttl_s for point in points] == [0.0] * 20 + [
        300.0
    ]  # 20 boundaries are looked at, nothing after the mark
    assert points[-1].num_tokens == sum(len(o200k().encode(segment.text)) for segment in segments[:25])
    assert read_prompt(Call("m", tuple(segments)), o200k()).cache_points is None


def test_an_empty_prompt_counts_one_token() -> None:
    assert read_prompt(Call("m", (Segment(""),)), o200k()).num_tokens == 1


def test_pieces_of_any_text_are_the_text() -> None:
    for text in ('{"city": "Zürich 🙂🏳️‍🌈"}', "plain words", "日本語のテキスト", ""):
        assert "".join(o200k().pieces(text)) == text
        assert len(o200k().pieces(text)) == len(o200k().encode(text))
