"""What the command line says of a deployment file, against the classes that read it."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from mockllm.cli import app
from mockllm.errors import DeploymentError
from mockllm.policy_text import policy_names, policy_summary, policy_text
from mockllm.stack.fault_kinds import KINDS
from mockllm.stack.table import POLICIES


def test_there_is_a_text_for_everything_that_a_file_may_have() -> None:
    assert set(policy_names()) == {*POLICIES, "price", "limits", "replicas", "faults"}


@pytest.mark.parametrize("name", policy_names())
def test_a_text_names_every_key_and_says_what_it_takes(name: str) -> None:
    text = policy_text(name)
    keys = text.split("Keys of ", 1)[1]
    settings = [POLICIES[name].settings] if name in POLICIES else []
    for field in (key for each in settings for key in each.model_fields):
        assert f"\n  {field} " in keys
    assert " value" not in keys.replace("list of value", "")  # every type has a word
    assert "Undefined" not in text
    assert 20 < len(policy_summary(name)) < 200


def test_every_kind_of_fault_is_there() -> None:
    text = policy_text("faults")
    assert all(f"Keys of {kind}:" in text for kind in KINDS)


def test_durations_are_shown_with_their_unit() -> None:
    assert "ttl           duration   (default 1 h)" in policy_text("exact_cache")


def test_the_command_lists_and_explains() -> None:
    listed = CliRunner().invoke(app, ["policies"])
    assert listed.exit_code == 0
    assert all(name in listed.output for name in policy_names())
    assert "Keys of hedge:" in CliRunner().invoke(app, ["policies", "hedge"]).output
    with pytest.raises(DeploymentError, match="no policy; there are: static_cache"):
        policy_text("magic")
