"""The oracle's own proof: cases worked out by hand, the simpler oracle, and a measured run of vLLM.

In the cases a step lasts one second whatever it computes, so that instants are step numbers; blocks hold 4 tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.laws import stepwise
from tests.laws.vllm_reference import Job, Limits, Load, Step, simulate

WIDE = Limits(max_num_seqs=8, max_num_batched_tokens=100, block_size=4)
CACHING = replace(WIDE, prefix_caching=True)


def one_second(load: Load) -> float:
    return 1.0


def run(limits: Limits, *jobs: Job) -> list[Step]:
    return simulate(list(jobs), limits, one_second)


# Steps, budget, chunks


def test_one_job_step_by_step() -> None:
    job = Job("a", 2.5, prompt=7, output=3)
    steps = run(replace(WIDE, long_prefill_token_threshold=3), job)
    # Prefill 3 + 3 + 1, attention 3*(0+1.5), 3*(3+1.5), 1*(6+.5); then decodes with 8 and 9 tokens in context.
    # Blocks of 4 for 3, 6, 7, 8, 9 tokens.
    assert [step.load for step in steps] == [
        Load(3, 1, 4.5, 0, 0),
        Load(3, 1, 13.5, 0, 0),
        Load(1, 1, 6.5, 0, 0),
        Load(0, 0, 0, 1, 8),
        Load(0, 0, 0, 1, 9),
    ]
    assert [step.num_blocks_used for step in steps] == [1, 2, 2, 2, 3]
    assert [(step.start, step.duration) for step in steps] == [(2.5 + number, 1.0) for number in range(5)]
    assert job.token_times == [5.5, 6.5, 7.5]
    assert (job.scheduled_at, job.num_cached, job.num_preemptions) == (2.5, 0, 0)


def test_the_step_time_is_asked_about_the_load() -> None:
    a, b = Job("a", 0, prompt=4, output=3), Job("b", 0, prompt=6, output=1)
    simulate([a, b], WIDE, lambda load: 1 + load.num_prefill_tokens + 10 * load.num_decodes + 100 * load.num_kv_tokens)
    # 0: a's prefill, 1+4. 5: b's prefill and a's decode over 5 tokens, 1+6+10+500. 522: decode over 6, 1+10+600.
    assert a.token_times == [5, 522, 1133]
    assert b.token_times == [522]


@pytest.mark.parametrize(
    ("chunked_prefill", "prefill_tokens", "first_tokens"),
    [
        # Step 1: a 6, and 4 of b's 6. Step 2: b's last 2, c 2.
        (True, [1, 10, 4], {"a": 2, "b": 3, "c": 3}),
        # Step 1: a 6; b's 6 do not fit into 4, and c, who would, stands behind b. Step 2: b 6, c 2.
        (False, [1, 6, 8], {"a": 2, "b": 3, "c": 3}),
    ],
)
def test_prefill_in_one_piece_or_in_chunks(
    chunked_prefill: bool, prefill_tokens: list[int], first_tokens: dict[str, float]
) -> None:
    jobs = [Job("x", 0, 1, 1), Job("a", 0.5, 6, 1), Job("b", 0.5, 6, 1), Job("c", 0.5, 2, 1)]
    steps = run(replace(WIDE, max_num_batched_tokens=10, chunked_prefill=chunked_prefill), *jobs)
    assert [step.load.num_prefill_tokens for step in steps] == prefill_tokens
    assert {job.name: job.token_times[0] for job in jobs[1:]} == first_tokens


def test_decodes_come_first_then_running_prefills_then_the_queue() -> None:
    # Budget 5. 0: a 1. 1: a's decode, 4 of b's 6. 2: a's decode, b's last 2, and 2 of c's 3. 3: two decodes, c's last.
    a, b, c = Job("a", 0, 1, 4), Job("b", 0.5, 6, 2), Job("c", 1.5, 3, 1)
    steps = run(replace(WIDE, max_num_seqs=3, max_num_batched_tokens=5), a, b, c)
    assert [(step.load.num_decodes, step.load.num_prefill_tokens, step.load.num_prefills) for step in steps] == [
        (0, 1, 1),
        (1, 4, 1),
        (1, 4, 2),
        (2, 1, 1),
    ]
    assert (b.token_times, c.token_times, c.scheduled_at) == ([3, 4], [4], 2)


def test_max_num_seqs_keeps_the_third_waiting() -> None:
    a, b, c = Job("a", 0, 1, 3), Job("b", 0.5, 1, 3), Job("c", 0.6, 1, 1)
    run(replace(WIDE, max_num_seqs=2), a, b, c)
    assert (a.token_times, b.token_times, c.token_times) == ([1, 2, 3], [2, 3, 4], [4])


@pytest.mark.parametrize(
    ("at", "in_sync", "in_async"),
    [
        (0.0, 1, 2),  # the same instant as a: while step 0 runs
        (0.5, 1, 2),
        (1.0, 2, 3),  # step 0 is over, step 1 has begun
        (3.5, 4, 4),  # during a's last step; nothing is left to run at 4, so there is no step to miss
        (4.0, 4, 4),  # nothing runs
        (7.25, 7.25, 7.25),
    ],
)
def test_when_an_arrival_is_admitted(at: float, in_sync: float, in_async: float) -> None:
    for async_scheduling, expected in ((False, in_sync), (True, in_async)):
        a, b = Job("a", 0, 1, 4), Job("b", at, 1, 1)
        run(replace(WIDE, async_scheduling=async_scheduling), a, b)
        assert b.scheduled_at == expected
        assert b.token_times == [expected + 1]
        assert a.token_times == [1, 2, 3, 4]


# Blocks and preemption


def test_the_last_is_preempted_for_an_earlier_one_and_recomputed() -> None:
    # 0: a 7 tokens, 2 blocks. 1: a 8 in 2, b 5 in 2: all four. 2: a's ninth token needs a block: b goes (5 + 1 tokens
    # to do again), and nobody is admitted. 3, 4, 5: one block is free, b needs 2. 6: a is gone, b prefills 6 and gets
    # its second token; 7: its third, over 7 tokens.
    a, b = Job("a", 0, 7, 6), Job("b", 0, 5, 3)
    steps = run(replace(WIDE, num_blocks=4), a, b)
    assert a.token_times == [1, 2, 3, 4, 5, 6]
    assert b.token_times == [2, 7, 8]
    assert (a.num_preemptions, b.num_preemptions, b.scheduled_at) == (0, 1, 1)
    assert [step.num_blocks_used for step in steps] == [2, 4, 3, 3, 3, 3, 2, 2]
    assert steps[2].load == Load(0, 0, 0, 1, 9)
    assert steps[6].load == Load(6, 1, 18.0, 0, 0)
    assert steps[7].load == Load(0, 0, 0, 1, 7)


def test_the_last_preempts_itself() -> None:
    # 5 blocks. 1: a 9 in 3, b 7 in 2. 2: a 10, b 8. 3: a 11 in 3; b's ninth token needs a block, and b is the last.
    # b's 9 tokens need 3 blocks; until a leaves at 6 two or one are free. 6: b prefills 9; 7, 8: over 10 and 11.
    a, b = Job("a", 0, 8, 6), Job("b", 0, 7, 5)
    steps = run(replace(WIDE, num_blocks=5), a, b)
    assert a.token_times == [1, 2, 3, 4, 5, 6]
    assert b.token_times == [2, 3, 7, 8, 9]
    assert b.num_preemptions == 1
    assert [step.load.num_decodes for step in steps] == [0, 1, 2, 1, 1, 1, 0, 1, 1]
    assert [step.num_blocks_used for step in steps] == [2, 5, 5, 3, 3, 4, 3, 3, 3]


def test_several_are_preempted_and_come_back_in_their_order() -> None:
    # 6 blocks. a prefills 8 in 2; b and c 4 each in 1; d 4 in 1 (1: a 9 in 3, so 3 + 1 + 1 + 1 = 6).
    # 2: a 10 in 3; b's fifth token needs a block: d goes. c's fifth needs one: c is now the last and goes itself.
    # 3: a 11, b 6 in 2: 1 free; c (4 + 1 tokens) needs 2 and is the head: d, behind it, waits too.
    # 4: a 12, b 7. a is done at 5 (5 tokens), b too (4 tokens). 5: c and d prefill 5 each, 2 blocks each. e, which came
    # before they were preempted and would have fitted at 3, stands behind them: 1 block at 5.
    a, b, c, d = Job("a", 0, 8, 5), Job("b", 0.1, 4, 4), Job("c", 0.2, 4, 2), Job("d", 0.3, 4, 2)
    e = Job("e", 1.5, 1, 1)
    steps = run(replace(WIDE, num_blocks=6), a, b, c, d, e)
    assert a.token_times == [1, 2, 3, 4, 5]
    assert b.token_times == [2, 3, 4, 5]
    assert (c.token_times, d.token_times) == ([2, 6], [2, 6])
    assert (c.num_preemptions, d.num_preemptions) == (1, 1)
    assert e.scheduled_at == 5
    assert [step.num_blocks_used for step in steps] == [2, 6, 5, 5, 5, 5]


def test_the_head_of_the_queue_stops_those_behind_it() -> None:
    # 4 blocks. a: 2, then 3 from its decode on. b needs 3 and waits until a leaves at 3; c, who needs 1, waits with it.
    a, b, c = Job("a", 0, 8, 3), Job("b", 0.5, 12, 1), Job("c", 0.6, 2, 1)
    run(replace(WIDE, num_blocks=4), a, b, c)
    assert (b.scheduled_at, c.scheduled_at) == (3, 3)
    a, c = Job("a", 0, 8, 3), Job("c", 0.6, 2, 1)
    run(replace(WIDE, num_blocks=4), a, c)
    assert c.scheduled_at == 1


def test_admission_asks_for_the_blocks_of_the_chunk_only() -> None:
    # Budget 8, 5 blocks. a: 8 tokens in 2, then 3. b's 15 tokens need 4 blocks in all but its first chunk of 7 only 2.
    # 1: a 9 in 3, b 7 in 2. 2: a 10; b's next chunk of 7 (14 in 4) finds nothing: b goes, its chunk does not run.
    # 3: a leaves at 4 (4 tokens); b's chunk of 7 needs 2 and 2 are free: admitted. 4: chunk 8.
    a, b = Job("a", 0, 8, 4), Job("b", 0, 15, 1)
    steps = run(replace(WIDE, max_num_batched_tokens=8, num_blocks=5), a, b)
    assert [(step.load.num_prefill_tokens, step.num_blocks_used) for step in steps] == [
        (8, 2),
        (7, 5),
        (0, 3),
        (7, 5),
        (8, 4),
    ]
    assert (b.token_times, b.num_preemptions, b.scheduled_at) == ([5], 1, 1)


# Priority


def test_the_queue_is_ordered_by_priority() -> None:
    jobs = [Job("x", 0, 1, 1), Job("a", 0.1, 1, 1, priority=2), Job("b", 0.2, 1, 1), Job("c", 0.3, 1, 1, priority=2)]
    run(replace(WIDE, max_num_seqs=1, policy="priority"), *jobs)
    assert [job.scheduled_at for job in jobs] == [0, 2, 1, 3]


def test_the_least_urgent_preempts_itself_and_those_behind_it_go_on() -> None:
    # 4 blocks. 1: a 8 in 2, b 7 in 2. 2: a's ninth token needs a block; a itself is the least urgent and goes. b, behind
    # it, goes on (8 in 2). c fits, but nobody is admitted in such a step. 3: b 9 in 3, c 3 in 1; a (7 + 2 tokens, 3
    # blocks) waits behind. b leaves at 5. 5: a prefills 9; 6: over 10.
    a, b, c = Job("a", 0, 7, 4, priority=5), Job("b", 0.5, 7, 4, priority=1), Job("c", 1.5, 3, 1)
    steps = run(replace(WIDE, num_blocks=4, policy="priority"), a, b, c)
    assert a.token_times == [1, 2, 6, 7]
    assert b.token_times == [2, 3, 4, 5]
    assert (c.scheduled_at, c.token_times) == (3, [4])
    assert (a.num_preemptions, b.num_preemptions) == (1, 0)
    assert [step.num_blocks_used for step in steps] == [2, 4, 2, 4, 3, 3, 3]
    assert steps[2].load == Load(0, 0, 0, 1, 8)


def test_one_already_in_the_step_is_preempted_and_gives_its_token_back() -> None:
    # Budget 8, 7 blocks. 0: a 8 in 2. 1: a 9 in 3, b 7 in 2. 2: a 10 in 3, b 8 in 2, 6 of c's 13 in 2: all seven.
    # 3: a's decode (11 in 3) is in the step when b's ninth token needs a block: a goes, b takes one, two are free. The
    # budget is 8 - 1 for b: c's chunk is 7 (13 in 4), attention 7 * (6 + 3.5). c is done at 4. 4: b 10; a's 8 + 3
    # tokens, 7 now, 4 at 5.
    a, b, c = Job("a", 0, 8, 4, priority=9), Job("b", 0.5, 7, 4, priority=1), Job("c", 1.5, 13, 1, priority=2)
    steps = run(replace(WIDE, max_num_batched_tokens=8, num_blocks=7, policy="priority"), a, b, c)
    assert steps[2].load == Load(6, 1, 18.0, 2, 18)
    assert steps[3].load == Load(7, 1, 66.5, 1, 9)
    assert steps[4].load == Load(7, 1, 24.5, 1, 10)
    assert steps[5].load == Load(4, 1, 36.0, 0, 0)
    assert [step.num_blocks_used for step in steps] == [2, 5, 7, 7, 5, 3]
    assert (a.token_times, b.token_times, c.token_times) == ([1, 2, 3, 6], [2, 3, 4, 5], [4])


def test_a_preempted_chunk_leaves_no_hashes_behind() -> None:
    # 7 blocks, chunks of at most 8. 0: a 8 in 2 (hashes 1, 2). 1: a 16 in 4 (3, 4), b 4 in 1. 2: a's next 8 take the last
    # two (5, 6), then b's fifth token needs one: a goes and its chunk does not run, so 5 and 6 are not known. b takes one.
    # 3: a finds 16 tokens, 8 more need 2 blocks, 1 is free. b leaves at 4. 4: a's 8 after 16, 5: 1 after 24.
    a = Job("a", 0, 25, 1, priority=5, hashes=(1, 2, 3, 4, 5, 6))
    b = Job("b", 0.5, 4, 3, priority=1)
    steps = run(replace(CACHING, long_prefill_token_threshold=8, num_blocks=7, policy="priority"), a, b)
    assert a.num_preemptions == 1
    assert [step.load.num_prefill_tokens for step in steps] == [8, 12, 0, 0, 8, 1]
    assert steps[4].load == Load(8, 1, 160.0, 0, 0)
    assert steps[5].load == Load(1, 1, 24.5, 0, 0)
    assert (a.token_times, b.token_times, a.num_cached) == ([6], [2, 3, 4], 0)


# Prefix cache


@pytest.mark.parametrize(
    ("prompt", "hashes", "num_cached"),
    [
        (8, (1, 2), 4),  # both blocks are known, but the last token is computed: at most (8 - 1) // 4 blocks
        (9, (1, 2), 8),
        (12, (1, 2, 3), 8),
        (12, (9, 2, 3), 0),  # leading run only
        (12, (1, 9, 2), 4),
        (3, (), 0),
    ],
)
def test_a_hit_is_the_leading_run_of_known_full_blocks(prompt: int, hashes: tuple[int, ...], num_cached: int) -> None:
    a, b = Job("a", 0, 8, 1, hashes=(1, 2)), Job("b", 5, prompt, 1, hashes=hashes)
    steps = run(CACHING, a, b)
    new = prompt - num_cached
    assert b.num_cached == num_cached
    assert steps[1].load == Load(new, 1, new * (num_cached + new / 2), 0, 0)
    assert steps[1].num_blocks_used == -(-prompt // 4)
    a, b = Job("a", 0, 8, 1, hashes=(1, 2)), Job("b", 5, prompt, 1, hashes=hashes)
    run(WIDE, a, b)
    assert b.num_cached == 0


def test_a_prompt_is_shared_within_the_step_that_computes_it() -> None:
    # Step 1: a computes 9 in 3 blocks, b shares two and computes 1 after 8 in a third.
    jobs = [Job("x", 0, 1, 1), Job("a", 0.5, 9, 3, hashes=(1, 2)), Job("b", 0.5, 9, 2, hashes=(1, 2))]
    steps = run(CACHING, *jobs)
    assert steps[1].load == Load(10, 2, 9 * 4.5 + 8.5, 0, 0)
    assert [step.num_blocks_used for step in steps] == [1, 4, 4, 3]  # 1: 2 shared, 1 each; 3: b has left, a's 3 stay
    assert jobs[2].num_cached == 8


def test_a_partial_chunk_shares_its_full_blocks_only() -> None:
    # Chunks of 7. 0: 7 of a's 12. 1: a's last 5 are in the step before b looks: blocks 1 to 3 are full, b hits two.
    a, b = Job("a", 0, 12, 1, hashes=(1, 2, 3)), Job("b", 0.5, 9, 1, hashes=(1, 2))
    run(replace(CACHING, long_prefill_token_threshold=7), a, b)
    assert (b.scheduled_at, b.num_cached) == (1, 8)
    # Chunks of 3: when b looks, 6 tokens of a are computed or in the step: one block is full.
    a, b = Job("a", 0, 12, 1, hashes=(1, 2, 3)), Job("b", 0.5, 9, 1, hashes=(1, 2))
    run(replace(CACHING, long_prefill_token_threshold=3), a, b)
    assert (b.scheduled_at, b.num_cached) == (1, 4)


def test_the_tail_of_a_prompt_is_evicted_first() -> None:
    # 4 blocks, one job at a time. a takes 0, 1 and leaves 1 before 0: the queue is 2 3 1 0. b takes 2, 3, 1: hash 2 goes.
    # b leaves 1 3 2: the queue is 0 1 3 2. c hits hash 1 in 0, takes 1 and 3: hashes 9 and 8 go. d hits 7 in 2.
    a = Job("a", 0, 8, 1, hashes=(1, 2))
    b = Job("b", 10, 12, 1, hashes=(7, 8, 9))
    c = Job("c", 20, 12, 1, hashes=(1, 2, 3))
    d = Job("d", 30, 12, 1, hashes=(7, 8, 9))
    run(replace(CACHING, num_blocks=4), a, b, c, d)
    assert [job.num_cached for job in (a, b, c, d)] == [0, 0, 4, 4]


def test_a_hit_makes_a_block_the_most_recently_used() -> None:
    # 4 blocks. x in 0, y in 1: the queue is 2 3 0 1. x again hits 0 and takes 2, leaves 2 before 0: 3 1 2 0.
    # z takes 3 and 1: hash 2 goes. x hits once more, y does not.
    x, y = Job("x", 0, 4, 1, hashes=(1,)), Job("y", 10, 4, 1, hashes=(2,))
    again, z = Job("again", 20, 5, 1, hashes=(1,)), Job("z", 30, 8, 1, hashes=(5, 6))
    x_last, y_last = Job("x last", 40, 5, 1, hashes=(1,)), Job("y last", 50, 5, 1, hashes=(2,))
    run(replace(CACHING, num_blocks=4), x, y, again, z, x_last, y_last)
    assert (again.num_cached, x_last.num_cached, y_last.num_cached) == (4, 4, 0)


def test_a_second_copy_stays_unknown() -> None:
    # 4 blocks. a in 0, 1: the queue is 2 3 1 0. b hits 0, computes its last block into 2 (hash 2 is known in 1):
    # 3 1 2 0. c takes 3 and 1: hash 2 goes though block 2 still holds the same tokens. d finds hash 1 only.
    a, b = Job("a", 0, 8, 1, hashes=(1, 2)), Job("b", 10, 8, 1, hashes=(1, 2))
    c, d = Job("c", 20, 8, 1), Job("d", 30, 9, 1, hashes=(1, 2))
    run(replace(CACHING, num_blocks=4), a, b, c, d)
    assert [job.num_cached for job in (a, b, c, d)] == [0, 4, 0, 4]
    # 5 blocks. b's copy of hash 2 in block 2 as before; b's own decodes take 3, 4 and, over 17 tokens, 1: hash 2 goes
    # while b still runs. That b's copy is the only one by the time b leaves does not make it known.
    a, b, d = Job("a", 0, 8, 1, hashes=(1, 2)), Job("b", 10, 8, 10, hashes=(1, 2)), Job("d", 30, 9, 1, hashes=(1, 2))
    run(replace(CACHING, num_blocks=5), a, b, d)
    assert [job.num_cached for job in (a, b, d)] == [0, 4, 4]


def test_blocks_of_the_answer_are_known_once_the_sequence_has_left() -> None:
    # a: prompt 4, 5 tokens, of which the last is never computed: 8 tokens, two full blocks, the second known from 5 on,
    # when a leaves. "early" is admitted at 4, while a computes its eighth token; "next" at 5.
    a = Job("a", 0, 4, 5, hashes=(1, 2))
    early, after = Job("early", 3.5, 9, 1, hashes=(1, 2, 77)), Job("after", 9, 9, 1, hashes=(1, 2))
    run(CACHING, a, early, after)
    assert (early.scheduled_at, early.num_cached, after.num_cached) == (4, 4, 8)
    a, following = Job("a", 0, 4, 5, hashes=(1, 2)), Job("next", 4.5, 9, 1, hashes=(1, 2))
    run(CACHING, a, following)
    assert (following.scheduled_at, following.num_cached) == (5, 8)
    # One token less, and 7 are computed: the second block is not full.
    a, after = Job("a", 0, 4, 4, hashes=(1, 2)), Job("after", 9, 9, 1, hashes=(1, 2))
    run(CACHING, a, after)
    assert after.num_cached == 4


def test_unreferenced_hits_are_not_free_for_the_rest_of_the_prompt() -> None:
    # 3 blocks. 0: a in 0, 1: the queue is 2 1 0. 1: b takes 2. c hits 1 and 0, which are then no longer free for its
    # third block: it waits. 2: b has left.
    a = Job("a", 0, 8, 1, hashes=(1, 2))
    b, c = Job("b", 0.5, 4, 1), Job("c", 0.5, 9, 1, hashes=(1, 2))
    run(replace(CACHING, num_blocks=3), a, b, c)
    assert (b.scheduled_at, c.scheduled_at, c.num_cached) == (1, 2, 8)


def test_a_preempted_sequence_finds_its_own_blocks_again() -> None:
    # 4 blocks. 0: a 6 in 2. 1: a 7, b 5 in 2. 2: a 8, b 6. 3: a 9 in 3: b goes with 6 computed and 2 tokens given; its first
    # block stays known, the second is not full. Blocks 3 and 2 are free, a takes 3. 4: b's 7 tokens hit block 2 and need
    # another, but the hit was the only free one. a leaves at 5 (5 tokens). 5: b computes 3 after 4; 6: a decode over 8.
    a, b = Job("a", 0, 6, 5), Job("b", 0, 5, 4, hashes=(11, 12))
    steps = run(replace(CACHING, num_blocks=4), a, b)
    assert a.token_times == [1, 2, 3, 4, 5]
    assert b.token_times == [2, 3, 6, 7]
    assert (b.num_cached, b.num_preemptions, b.scheduled_at) == (0, 1, 1)
    assert steps[5].load == Load(3, 1, 3 * (4 + 1.5), 0, 0)
    assert steps[6].load == Load(0, 0, 0, 1, 8)


def test_generated_tokens_computed_again_are_known_only_when_the_sequence_leaves() -> None:
    # 5 blocks. 0: a 8 in 2. 1: a 9 in 3, b 4 in 1. 2: a 10, b 5 in 2. 3, 4: a 12, b 7. 5: a 13 in 4: b goes with 4 tokens
    # given; its first block (hash 11) stays known. a leaves at 6. 6: b computes 4 after 4: its second block is full, but
    # all of it is answer. c, admitted behind b in the same step, shares the first block only: 5 after 4.
    a, b = Job("a", 0, 8, 6), Job("b", 0, 4, 7, hashes=(11, 12))
    c, after = Job("c", 5.5, 9, 1, hashes=(11, 12)), Job("after", 20, 9, 1, hashes=(11, 12))
    steps = run(replace(CACHING, num_blocks=5), a, b, c, after)
    assert (b.num_preemptions, b.token_times) == (1, [2, 3, 4, 5, 7, 8, 9])
    assert steps[6].load == Load(9, 2, 4 * (4 + 2) + 5 * (4 + 2.5), 0, 0)
    assert (c.scheduled_at, c.num_cached, after.num_cached) == (6, 4, 8)


# What cannot be


def test_what_cannot_be_served_is_refused_before_anything_runs() -> None:
    fits, fits_not = Job("fits", 0, 10, 6), Job("fits not", 0, 10, 7)
    with pytest.raises(ValueError, match=r"fits not.*more than 4 blocks of 4"):
        run(replace(WIDE, num_blocks=4), fits, fits_not)
    assert fits.token_times == []
    run(replace(WIDE, num_blocks=4), fits)
    assert len(fits.token_times) == 6
    with pytest.raises(ValueError, match="no result yet"):
        run(WIDE, fits)
    with pytest.raises(ValueError, match="none comes twice"):
        run(WIDE, Job("a", 0, 8, 1, hashes=(1, 1)))
    with pytest.raises(ValueError, match="max_num_seqs <= max_num_batched_tokens"):
        Limits(max_num_seqs=9, max_num_batched_tokens=8)
    with pytest.raises(ValueError, match="cannot be admitted even while nothing runs"):
        run(replace(WIDE, max_num_batched_tokens=8, chunked_prefill=False), Job("a", 0, 9, 1))


# Laws


@st.composite
def loads(draw: st.DrawFn) -> list[Job]:
    """Jobs of at most 160 tokens, some at the same instant; prompts begin alike within a family, as far as `common` says."""
    gaps = draw(st.lists(st.one_of(st.just(0.0), st.floats(0, 0.3)), min_size=1, max_size=15))
    jobs, now = [], 0.0
    for number, gap in enumerate(gaps):
        now += gap
        family, common = draw(st.integers(1, 2)), draw(st.integers(0, 30))
        hashes = tuple(1000 * (family if place < common else 10 + number) + place for place in range(40))
        job = Job(f"j{number}", now, draw(st.integers(1, 90)), draw(st.integers(1, 70)), draw(st.integers(0, 2)))
        job.hashes = hashes[: (job.prompt + job.output) // 4]
        jobs.append(job)
    return jobs


def again(jobs: list[Job]) -> list[Job]:
    return [Job(job.name, job.at, job.prompt, job.output, job.priority, job.hashes) for job in jobs]


def affine(load: Load) -> float:
    return 0.01 + 0.0002 * load.num_prefill_tokens + 0.0005 * load.num_decodes + 0.00002 * load.num_kv_tokens


PRESSED = st.builds(
    Limits,
    max_num_seqs=st.integers(1, 6),
    max_num_batched_tokens=st.integers(6, 200),
    long_prefill_token_threshold=st.sampled_from([0, 0, 1, 7, 40]),
    num_blocks=st.integers(40, 90),
    block_size=st.just(4),
    prefix_caching=st.booleans(),
    policy=st.sampled_from(["fcfs", "priority"]),
    async_scheduling=st.booleans(),
)


@settings(max_examples=200, deadline=None)
@given(loads(), st.integers(1, 6), st.integers(6, 200))
def test_without_blocks_it_is_the_simpler_oracle(
    jobs: list[Job], max_num_seqs: int, max_num_batched_tokens: int
) -> None:
    theirs = [stepwise.Job(job.name, job.at, job.prompt, job.output) for job in jobs]
    stepwise.stepwise(theirs, stepwise.Costs(0.01, 0.0002, 0.0005, 0.00002, max_num_seqs, max_num_batched_tokens))
    simulate(jobs, Limits(max_num_seqs, max_num_batched_tokens), affine)
    for job, their in zip(jobs, theirs, strict=True):
        assert job.token_times == pytest.approx(their.token_times, abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(loads(), PRESSED)
def test_every_job_gets_its_tokens_whatever_the_pressure(jobs: list[Job], limits: Limits) -> None:
    """The simulator checks blocks, references, budget and sequences at every step; here is what can be seen from outside."""
    steps = simulate(jobs, limits, affine)
    ends = {step.start + step.duration for step in steps}
    for job in jobs:
        assert len(job.token_times) == job.output
        assert all(earlier < later for earlier, later in pairwise(job.token_times))
        assert ends.issuperset(job.token_times)
        assert job.scheduled_at is not None
        assert job.at <= job.scheduled_at < job.token_times[0]
    assert all(one.start + one.duration <= other.start for one, other in pairwise(steps))
    assert all(0 < step.num_blocks_used <= limits.num_blocks for step in steps if limits.num_blocks)
    # All tokens but each job's last are computed or found once; preempted ones once more.
    computed = sum(step.load.num_prefill_tokens + step.load.num_decodes for step in steps)
    needed = sum(job.prompt + job.output - 1 - job.num_cached for job in jobs)
    if not any(job.num_preemptions for job in jobs):
        assert computed == needed
    elif not limits.prefix_caching:
        assert computed > needed


@settings(max_examples=100, deadline=None)
@given(loads(), PRESSED)
def test_enough_blocks_are_as_good_as_any_number(jobs: list[Job], limits: Limits) -> None:
    """15 jobs of 40 blocks: nothing is ever evicted from 600, so not even hits can differ."""
    unlimited = again(jobs)
    assert simulate(jobs, replace(limits, num_blocks=600), affine) == simulate(
        unlimited, replace(limits, num_blocks=None), affine
    )
    assert jobs == unlimited


@settings(max_examples=100, deadline=None)
@given(loads(), PRESSED)
def test_one_priority_for_all_is_first_come_first_served(jobs: list[Job], limits: Limits) -> None:
    jobs = [Job(job.name, job.at, job.prompt, job.output, 0, job.hashes) for job in jobs]
    same = again(jobs)
    assert simulate(jobs, replace(limits, policy="fcfs"), affine) == simulate(
        same, replace(limits, policy="priority"), affine
    )
    assert jobs == same


# A measured run


@dataclass(frozen=True)
class Roofline:
    """Llama-3.1-8B on one RTX 4090: a soft maximum of memory and compute time, attention, and the host's time a step.

    Efficiencies from LLMServingSim's kernel profile of this GPU, the host's constants from a sweep on another one.
    """

    t_cpu: float = 1.025e-3
    c_seq: float = 0.005e-3
    c_new: float = 0.66e-3

    def __call__(self, load: Load) -> float:
        flops, bandwidth, sharpness = 165e12, 1.008e12, 2.3
        params, kv_bytes, layers, heads, head_dim = 8.03e9, 131072, 32, 32, 128
        weights = params * 2 / (bandwidth * 0.98)
        compute = 2 * params * (load.num_prefill_tokens + load.num_decodes) / (flops * 1.03)
        kv = load.num_kv_tokens * kv_bytes / (bandwidth * 0.88)
        attention = 4 * layers * heads * head_dim * load.attention_work / (flops * 0.75)
        host = self.t_cpu + self.c_seq * (load.num_prefills + load.num_decodes) + self.c_new * load.num_prefills
        return host + float((weights**sharpness + compute**sharpness) ** (1 / sharpness)) + kv + attention


RTX4090 = Limits(max_num_seqs=256, max_num_batched_tokens=2048, num_blocks=2588)


def measured(shared_data: Path) -> tuple[list[Job], dict[str, float]]:
    """The 300 requests of the run at their arrival times, and what vLLM reported.

    `arrival_time` (wall clock, front end) says when a job comes, counted from the first. Measured times are differences
    within the engine's own clock: TTFT from `queued_ts` to `first_token_ts`, E2E from `queued_ts` to `last_token_ts`.
    """
    path = shared_data / "llmservingsim_vllm" / "RTX4090_Llama-3.1-8B" / "requests.jsonl"
    if not path.is_file():
        pytest.skip(f"NOT CHECKED: the measured run is not at {path}")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    origin = rows[0]["arrival_time"]
    jobs = [Job(row["request_id"], row["arrival_time"] - origin, row["input_toks"], row["output_toks"]) for row in rows]
    return jobs, {
        "ttft": mean(row["first_token_ts"] - row["queued_ts"] for row in rows),
        "tpot": mean((row["last_token_ts"] - row["first_token_ts"]) / (row["output_toks"] - 1) for row in rows),
        "e2e": mean(row["last_token_ts"] - row["queued_ts"] for row in rows),
    }


def replay(jobs: list[Job], limits: Limits, step_time: Callable[[Load], float]) -> dict[str, float]:
    simulate(jobs, limits, step_time)
    return {
        "ttft": mean(job.token_times[0] - job.at for job in jobs),
        "tpot": mean((job.token_times[-1] - job.token_times[0]) / (job.output - 1) for job in jobs),
        "e2e": mean(job.token_times[-1] - job.at for job in jobs),
    }


def test_a_measured_run_of_vllm_under_heavy_pressure(shared_data: Path) -> None:
    jobs, expected = measured(shared_data)
    # As printed in the run's own summary: the reading of its files is right.
    assert expected == pytest.approx({"ttft": 65.4566, "tpot": 0.0324, "e2e": 86.5783}, rel=2e-3)
    assert replay(jobs, RTX4090, Roofline()) == pytest.approx(expected, rel=0.05)
    assert sum(job.num_preemptions for job in jobs) > 100  # vLLM's own count is not in the files
