"""Nothing is lost and nothing is made up: submitted = finished + refused + cut + cancelled + in flight, always."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm import Cut, Engine, Finished, Refused, Request, Serving, simulate
from mockllm.call import Call, Usage
from mockllm.content.reply import Part, Reply
from mockllm.content.text import Speaker
from mockllm.streams import Streams
from mockllm.wire.dialect import Context, End
from mockllm.wire.openai_chat import ChatWriter, parse
from tests.laws.load import engine, loads, told


def balance(engine: Serving) -> None:
    assert isinstance(engine, Engine)
    counts = engine.counts
    in_replicas = sum(model.replica.num_running + (model.replica.num_waiting or 0) for model in engine.models.values())
    ended = counts.num_finished + counts.num_refused + counts.num_cut + counts.num_cancelled
    assert counts.num_submitted == ended + counts.num_in_flight
    # Counted where the requests really are; refusals not told yet and cancelled ones that wait for the step's end
    # are the only differences.
    assert counts.num_in_flight - in_replicas <= len(engine._refused)
    assert counts.num_in_flight >= 0


@given(loads(), st.lists(st.integers(0, 24), max_size=8), st.lists(st.floats(0, 0.3), min_size=8, max_size=8))
@settings(max_examples=200, deadline=None)
def test_requests_are_conserved_also_under_cancellation(
    arrivals: list[tuple[float, Request]], victims: list[int], delays: list[float]
) -> None:
    subject = engine(every_token=True)
    cancels = sorted(
        (arrivals[v][0] + d, arrivals[v][1].request_id)
        for v, d in zip(victims, delays, strict=False)
        if v < len(arrivals)
    )
    out, todo = [], [(at, 0, request) for at, request in arrivals] + [(at, 1, name) for at, name in cancels]
    cancelled: set[str] = set()
    last = -inf
    for at, _, what in sorted(todo, key=lambda item: (item[0], item[1])):
        while subject.due() <= at:
            out += subject.advance(subject.due())
        if isinstance(what, Request):
            subject.submit(what, at)
        elif subject.cancel(what, at):
            cancelled.add(what)
        balance(subject)
    while (due := subject.due()) < inf:
        assert due >= last, "the clock ran backwards"
        last = due
        out += subject.advance(due)
        balance(subject)
    seen = told(out)
    assert subject.counts.num_in_flight == 0
    assert subject.counts.num_cancelled == len(cancelled)
    for _, request in arrivals:
        end = seen.get(request.request_id, ([], None))[1]
        assert (end is None) == (request.request_id in cancelled)


@given(loads())
@settings(max_examples=100, deadline=None)
def test_every_token_is_told_once_and_in_order(arrivals: list[tuple[float, Request]]) -> None:
    subject = engine(every_token=True)
    for request_id, (chunks, end) in told(simulate(subject, arrivals)).items():
        assert end is not None
        tokens = [chunk.first + i for chunk in chunks for i in range(chunk.num)]
        assert tokens == list(range(len(tokens))), request_id
        assert isinstance(end, Refused | Finished | Cut)
        assert (0 if isinstance(end, Refused) else end.num_output_tokens) == len(tokens)
        instants = [chunk.at for chunk in chunks]
        assert instants == sorted(instants)


def stream_bytes(seed: int) -> bytes:
    """The bytes of every answer of a fixed load, written as the server writes them."""
    arrivals = [(i * 0.02, Request(f"r{i}", f"k{i}", "mh"[i % 2], 10 + i, max_tokens=15)) for i in range(40)]
    speaker, out = Speaker(Streams(seed)), b""
    call = parse(
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true,"stream_options":{"include_usage":true}}'
    )
    assert isinstance(call, Call)
    for request_id, (chunks, end) in sorted(told(simulate(engine(every_token=True, seed=seed), arrivals)).items()):
        key = "k" + request_id[1:]
        num_tokens = sum(chunk.num for chunk in chunks)
        reply = Reply((Part("text", speaker.answer(key), num_tokens),))
        writer = ChatWriter(call, Context(request_id, 0, True, key, Streams(seed)), [reply])
        out += writer.opening(Usage(1, 0))
        for chunk in chunks:
            for piece in reply.slices(chunk.first, chunk.num):
                out += repr(chunk.at).encode() + writer.piece(0, piece)
        out += repr(end).encode() + writer.end(0, End("stop", num_tokens)) + writer.closing(Usage(1, num_tokens))
    return out


def test_same_seed_same_bytes_other_seed_other_bytes() -> None:
    assert stream_bytes(3) == stream_bytes(3)
    assert stream_bytes(3) != stream_bytes(4)


@given(st.permutations(range(12)))
@settings(max_examples=30, deadline=None)
def test_draws_do_not_depend_on_the_order_of_arrival(order: list[int]) -> None:
    """A hosted answer's fate hangs on its key alone: the same request meets the same luck in any company."""

    def fate(indices: list[int]) -> dict[str, list[float]]:
        arrivals = [(0.0, Request(f"r{i}", f"k{i}", "h", 30, max_tokens=20)) for i in indices]
        return {
            name: [chunk.at for chunk in chunks]
            for name, (chunks, _) in told(simulate(engine(every_token=True), arrivals)).items()
        }

    assert fate(order) == fate(list(range(12)))


def test_an_id_that_is_in_flight_is_refused_with_its_value() -> None:
    subject = engine(every_token=True)
    subject.submit(Request("twice", "k", "m", 5), 0.0)
    with pytest.raises(ValueError, match="'twice' is in flight"):
        subject.submit(Request("twice", "k", "m", 5), 0.0)
