"""Secrets that a server says back."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.records import RequestRecord
from harness.safety.secrets import Scrubber, require_secret
from tests.harness.builders import LAW, record

KEY = "canary/7f3a+91b2=e4"


@pytest.mark.parametrize(
    "form",
    [
        KEY,
        quote(KEY, safe=""),
        quote(KEY, safe="").lower(),
        quote(KEY),
        KEY.replace("/", "\\/"),
        b64encode(KEY.encode()).decode(),
        f"Bearer {KEY}",
        f'{{"key": "{KEY}"}}',
    ],
)
def test_every_form_of_a_secret_goes(form: str) -> None:
    said = Scrubber([KEY, None]).text(f"no such key: {form}, try another")
    assert "canary" not in said
    assert form not in said
    assert said.startswith("no such key: ")
    assert said.endswith("try another")


@pytest.mark.parametrize(
    ("key", "said", "written"),
    [
        ("EMPTY", "EMPTY: the answer is empty", "[secret]: the answer is empty"),  # vLLM's usual key that is none
        ("Canary7f3A91B2", "302 to canary7f3a91b2.example", "302 to [secret].example"),  # a host comes in lower case
    ],
)
def test_a_long_secret_goes_in_upper_and_lower_case(key: str, said: str, written: str) -> None:
    assert Scrubber([key]).text(said) == written


@pytest.mark.parametrize("tail", ["", "…", "..."])
@pytest.mark.parametrize("length", range(6, len(KEY)))
def test_a_secret_that_was_cut_at_the_end_goes_too(length: int, tail: str) -> None:
    said = Scrubber([KEY]).text(f"Incorrect API key: {KEY[:length]}{tail}")
    assert said == f"Incorrect API key: [secret]{tail}"


@LAW
@given(before=st.text(), after=st.text(), secret=st.text(min_size=4))
def test_no_secret_survives_wherever_it_stands(before: str, after: str, secret: str) -> None:
    said = Scrubber([secret]).text(before + secret + after)
    assert secret not in said or secret in "[secret]"


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-abcdefgh12345678",
        "sk-ant-api03-abcdefgh",
        "hf_abcdefghijklmnop",
        "gsk_abcdefghijklmnop",
        "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc",
        "Bearer abc123def456",
        "bearer abc123def456",
    ],
)
def test_what_looks_like_a_key_goes_whoever_it_belongs_to(key: str) -> None:
    assert Scrubber([]).text(f"key {key} is not valid") == "key [secret] is not valid"


@pytest.mark.parametrize(
    "text",
    [
        "Bearer authentication required",
        "the task-12345678 is risk-adjusted",
        "no byte for 300 s",
        "finish reasons ['stop', 'length']",
        "model llama-3.1-8b does not exist",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    assert Scrubber([KEY]).text(text) == text


def test_every_word_of_the_server_in_a_record_is_scrubbed() -> None:
    fields = ("error_text", "finish_reason", "model_served", "server_request_id", "cache_outcome", "replica")
    said: RequestRecord = record(0, **dict.fromkeys(fields, f"you sent {KEY}"))
    Scrubber([KEY]).record(said)
    assert [getattr(said, name) for name in fields] == ["you sent [secret]"] * len(fields)
    assert said.error_kind is None


@pytest.mark.parametrize("written", [f'{{"labels":{{"k":"{KEY}"}}}}', f"/keys/{quote(KEY, safe='')}/prices.yaml"])
def test_a_run_whose_manifest_would_hold_the_key_is_refused(written: str) -> None:
    with pytest.raises(UsageError, match="HARNESS_API_KEY") as found:
        require_secret(KEY, written)
    assert KEY not in str(found.value)


@pytest.mark.parametrize(("key", "written"), [(None, "mock"), ("mock", "mock-key"), (KEY, "canary")])
def test_a_key_that_is_an_ordinary_word_refuses_no_run(key: str | None, written: str) -> None:
    require_secret(key, written)
