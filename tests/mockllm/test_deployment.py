"""Files are strict: every broken rule names file, line, key and value."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mockllm import bundled_profiles, load_deployment, load_profile
from mockllm.building import build_engine
from mockllm.errors import DeploymentError
from mockllm.strictyaml import Document, read_yaml

PROFILE = """\
name: mine
kind: batched
model: my-model
summary: A test.
as_of: 2026-11-21
sources: [measured]
max_model_len: 4096
answer_length: {median_tokens: 100, sigma: 0.5}
step_time: {b0: 0.007, b1: 2.3e-05, b2: 1.2e-05, b3: 4.2e-08}
scheduler:
  max_num_seqs: 64
  max_num_batched_tokens: 2048
"""


@pytest.mark.parametrize("name", bundled_profiles())
def test_bundled_profiles_load_and_name_their_sources(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.sources
    assert list(load_deployment(name).profiles) == [profile.model]


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (("max_num_seqs: 64", "max_num_seq: 64"), 10, ["scheduler.max_num_seqs", "required"]),
        (
            ("max_num_seqs: 64", "max_num_seqs: 64\n  max_num_sequences: 5"),
            12,
            ["max_num_sequences", "no key that belongs here"],
        ),
        (
            ("max_num_seqs: 64", "max_num_seqs: 64\n  max_num_seqs: 65"),
            12,
            ["max_num_seqs", "twice", "line 11"],
        ),
        (
            ("max_num_seqs: 64", "max_num_seqs: 0"),
            11,
            ["scheduler.max_num_seqs", "greater than or equal to 1", "0"],
        ),
        (("max_num_seqs: 64", "max_num_seqs: '64'"), 11, ["scheduler.max_num_seqs", "'64'", "integer"]),
        (("b0: 0.007", "b0: -1"), 9, ["step_time.b0", "-1"]),
        (("b0: 0.007", "b0: .nan"), 9, ["step_time.b0", "nan"]),
        (("b0: 0.007", "b0: 7 ms"), 9, ["step_time.b0", "7 ms"]),
        (("kind: batched", "kind: magic"), 2, ["kind", "magic"]),
        (("model: my-model", "model: &a my-model\nsummary2: *a"), 4, ["alias"]),
        (("max_num_batched_tokens: 2048", "max_num_batched_tokens: 32"), None, ["32", "at least", "64"]),
        (
            ("max_num_batched_tokens: 2048", "max_num_batched_tokens: 2048\n  chunked_prefill: false"),
            None,
            ["2048", "4096", "chunked_prefill"],
        ),
    ],
)
def test_a_broken_rule_is_named(tmp_path: Path, change: tuple[str, str], line: int | None, words: list[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(PROFILE.replace(*change))
    with pytest.raises(DeploymentError) as caught:
        load_deployment(str(path))
    message = str(caught.value)
    assert str(path) in message
    if line is not None:
        assert f"{path}:{line}:" in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("models: [", ["not YAML"]),
        (
            "models:\n  - {name: a, profile: golden}\n  - {name: a, profile: instant}\n",
            [":3:", "'a'", "twice"],
        ),
        ("models:\n  - name: a\n    profile: gold\n", [":3:", "models[0].profile", "'gold'", "golden"]),
        ("models: []\n", ["models", "at least 1"]),
        ("seed: 1\n", ["kind", "models"]),
        ("[1, 2]\n", ["mapping", "list"]),
        ("", ["mapping", "empty"]),
        (
            "seed: 1\nmodels:\n  - {name: a, profile: golden, weight: 3}\n",
            [":3:", "weight", "no key that belongs here"],
        ),
        ("models: {a: golden}\n", [":1: models: must be a list (got {'a': 'golden'})"]),
        ("models:\n  - {name: a, profile: golden}\nstack:\n", [":3: stack: must be a list (got None)"]),
        ("models:\n  - {name: a, profile: golden}\nfaults: {kind: outage}\n", [":3: faults: must be a list"]),
        (
            "models:\n  - {name: a, profile: golden}\nstack:\n  - exact_cache: {latency: 5ms}\n",
            [":4: stack[0].exact_cache.latency: must be a mapping of keys to values (got '5ms')"],
        ),
        (
            "models:\n  - {name: a, profile: golden}\nstack:\n  - retry\n  - rate_limits\n",
            [":5: stack[1].rate_limits: limits nobody"],
        ),
        (
            "models:\n  - {name: a, profile: golden}\nstack:\n  - priority_queue:\n",
            [":4: stack[0].priority_queue.workers: Field required"],
        ),
        (
            "models:\n  - {name: a, profile: golden, replicas: 100000000}\n",
            [":2: models[0].replicas.count", "less than or equal to 10000"],
        ),
        ("models: !foo x\n", ["not YAML"]),
        ("as_of: 2025-13-45\nmodels: []\n", ["not YAML"]),
    ],
)
def test_a_broken_deployment_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "stack.yaml"
    path.write_text(text)
    with pytest.raises(DeploymentError) as caught:
        load_deployment(str(path))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("every_token", [False, True])
def test_the_files_of_a_gpu_are_not_read_again_for_each_replica(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_token: bool
) -> None:
    num_read = Counter[str]()

    def counted(path: Path) -> Document:
        num_read[f"{path.parent.name}/{path.name}"] += 1
        return read_yaml(path)

    monkeypatch.setattr("mockllm.hardware.read_yaml", counted)
    reads = []
    for num in (1, 40):
        path = tmp_path / "stack.yaml"
        path.write_text(f"models:\n  - {{name: a, profile: h100-8b, replicas: {num}}}\n")
        num_read.clear()
        build_engine(load_deployment(str(path)), every_token=every_token)
        reads.append(dict(num_read))
    assert set(reads[0]) == {"gpus/h100-sxm.yaml", "llms/llama-3.1-8b.yaml"}
    assert reads[0] == reads[1]


def test_a_name_that_is_neither_file_nor_profile_gets_the_nearest_or_all() -> None:
    with pytest.raises(DeploymentError, match="did you mean golden"):
        load_deployment("goldn")
    with pytest.raises(DeploymentError, match=", ".join(bundled_profiles())):
        load_deployment("xyzzy")


def test_a_deployment_serves_profiles_under_its_own_names(tmp_path: Path) -> None:
    path = tmp_path / "stack.yaml"
    path.write_text("seed: 4\nmodels:\n  - {name: small, profile: h100-8b}\n  - {name: big, profile: hosted}\n")
    deployment = load_deployment(str(path))
    assert (deployment.seed, list(deployment.profiles)) == (4, ["small", "big"])
