"""Jobs of batch APIs, call by call, against the mock: no sockets and no waiting."""

from __future__ import annotations

import json
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message

import pytest

from harness.dialects import Asked, Call, Dialect, JobFlow, JobResults, Pause, UnreadableEvent
from harness.dialects.anthropic_batch import ANTHROPIC_BATCH
from harness.dialects.openai_batch import OPENAI_BATCH
from harness.reading import read_whole
from tests.contract.inside import Ask, Inside, instant_app

BATCHES = pytest.mark.parametrize("dialect", [OPENAI_BATCH, ANTHROPIC_BATCH], ids=lambda dialect: dialect.name)


@pytest.fixture(scope="module")
def mock() -> Iterator[Inside]:
    with instant_app() as inside:
        yield inside


def bodies_of(dialect: Dialect, *questions: str) -> list[bytes]:
    return [
        dialect.body(Asked("instant", (("user", text),), max_tokens=9, exact_length=True, stream=True))
        for text in questions
    ]


def carried_out(mock: Inside, dialect: Dialect, flow: JobFlow) -> tuple[JobResults, list[str]]:
    """The results, and what was called for them."""
    step, called = next(flow), []
    try:
        for _ in range(200):
            answer = b""
            if isinstance(step, Call):
                headers = {"content-type": step.content_type, **dialect.headers(None)}
                got = mock.ask(step.path, Ask(step.body, headers, step.method))
                assert got.status == 200, got.body
                answer = got.body
                called.append(f"{step.method} {step.path}")
            step = flow.send(answer)
    except StopIteration as end:
        return end.value, called
    raise AssertionError("the job does not end")


@BATCHES
def test_every_request_of_a_job_has_its_answer(mock: Inside, dialect: Dialect) -> None:
    assert dialect.job is not None
    questions = [f"Question number {number} about the – ü\n\n weather?" for number in range(30)]
    done, called = carried_out(mock, dialect, dialect.job(bodies_of(dialect, *questions)))
    assert len(done.results) == 30
    assert done.job_id.startswith({"openai-batch": "batch_", "anthropic-batch": "msgbatch_"}[dialect.name])
    for result in done.results:
        facts = read_whole(result.body, 0.0, dialect)
        assert (result.status, facts.complete) == (200, True)
        assert facts.usage is not None
        assert facts.usage.num_output_tokens == 9
    assert sum(call.startswith("POST") for call in called) == (2 if dialect is OPENAI_BATCH else 1)


def test_answers_go_to_their_questions(mock: Inside) -> None:
    """Prompts of different lengths come back with those lengths, in whatever order they were answered."""
    for dialect in (OPENAI_BATCH, ANTHROPIC_BATCH):
        assert dialect.job is not None
        bodies = bodies_of(dialect, *(" word" * number for number in range(1, 20)))
        done, _ = carried_out(mock, dialect, dialect.job(bodies))
        usages = [read_whole(result.body, 0.0, dialect).usage for result in done.results]
        assert [usage and usage.num_prompt_tokens for usage in usages] == list(range(1, 20))


@BATCHES
def test_a_request_that_is_refused_is_told_from_the_others(mock: Inside, dialect: Dialect) -> None:
    assert dialect.job is not None
    bad = json.loads(bodies_of(dialect, "hi")[0]) | {"temperature": 99}
    good = bodies_of(dialect, "one", "two")
    done, _ = carried_out(mock, dialect, dialect.job([good[0], json.dumps(bad).encode(), good[1]]))
    assert [result.status for result in done.results] == [200, 400, 200]
    assert "temperature" in dialect.error_text(done.results[1].body)


@BATCHES
def test_it_pauses_while_the_server_works(dialect: Dialect) -> None:
    assert dialect.job is not None
    flow = dialect.job([b"{}"])
    step = next(flow)
    working = b'{"id":"b1","status":"in_progress","processing_status":"in_progress"}'
    seen = []
    for _ in range(6):
        seen.append(type(step))
        step = flow.send(b"" if isinstance(step, Pause) else working)
    assert seen[-4:] == [Pause, Call, Pause, Call] or seen[-4:] == [Call, Pause, Call, Pause]


@BATCHES
@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b'{"id":5}', b"\xff"])
def test_what_is_no_batch_is_unreadable(dialect: Dialect, answer: bytes) -> None:
    assert dialect.job is not None
    flow = dialect.job([b"{}"])
    next(flow)
    with pytest.raises(UnreadableEvent):
        flow.send(answer)


def test_the_upload_is_a_form() -> None:
    """Read back by Python's own parser of mail, which knows multipart (RFC 2046)."""
    assert OPENAI_BATCH.job is not None
    bodies = bodies_of(OPENAI_BATCH, "one", 'two "quoted"\r\n--')
    call = next(OPENAI_BATCH.job(bodies))
    assert isinstance(call, Call)
    form = message_from_bytes(b"Content-Type: " + call.content_type.encode() + b"\r\n\r\n" + call.body)
    parts = form.get_payload()
    assert isinstance(parts, list)
    purpose, file = (part.get_payload(decode=True) for part in parts if isinstance(part, Message))
    assert purpose == b"batch"
    assert isinstance(file, bytes)
    rows = [json.loads(row) for row in file.split(b"\n")]
    assert [row["custom_id"] for row in rows] == ["0", "1"]
    assert [row["body"] for row in rows] == [json.loads(body) for body in bodies]
    assert {row["url"] for row in rows} == {"/v1/chat/completions"}
