"""The sweep over thresholds: what it reads, what it counts, and what the command says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from mockllm import cli
from mockllm.errors import DataError
from mockllm.semantic_sweep import THRESHOLDS, Outcome, Question, in_order, read_questions, sweep


class Angles:
    """A text is the angle at which its vector stands."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        angles = np.radians([float(text) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_a_stream_worked_out_by_hand() -> None:
    """cos 18.19 = .95: 10 is stored; 20 hits it, rightly; 40 is stored; 55 hits it, wrongly; 30 is nearer to 40 than to 10."""
    asked = [Question("10", "a"), Question("20", "a"), Question("40", "b"), Question("55", "a"), Question("30", "b")]
    assert sweep(asked, Angles(), [0.95]) == [Outcome(0.95, 5, 3, 1)]
    assert sweep(asked, Angles(), [1.0]) == [Outcome(1.0, 5, 0, 0)]
    outcome = Outcome(0.95, 5, 3, 1)
    assert (outcome.hit_rate, outcome.wrong_rate, outcome.wrong_hit_rate) == (3 / 5, 1 / 5, 1 / 3)
    assert Outcome(1.0, 5, 0, 0).wrong_hit_rate is None


def test_the_order_is_drawn_and_the_same_for_the_same_seed() -> None:
    asked = [Question(str(number), "a") for number in range(100)]
    once = in_order(asked)
    assert sorted(once) == sorted(asked)
    assert once == in_order(asked)
    assert once != in_order(asked, seed=1)
    assert once != asked


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "asked.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("header", ["text,category", "intent,question", "id,label,query", "prompt,intent,category"])
def test_columns_are_found_by_their_names(tmp_path: Path, header: str) -> None:
    cells = {"text": "hi, you", "question": "hi, you", "query": "hi, you", "prompt": "hi, you", "id": "7"}
    row = ",".join(
        f'"{cells.get(name, "greeting" if name != "category" or "intent" not in header else "x")}"'
        for name in header.split(",")
    )
    assert read_questions(written(tmp_path, f"{header}\n{row}\n")) == [Question("hi, you", "greeting")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("words,category\na,b\n", ":1: has no column text or question or query or prompt; there are: words, category"),
        ("text,kind\na,b\n", ":1: has no column intent or category or label; there are: text, kind"),
        ("text,intent\na,b\nc,\n", ":3: text and intent must not be empty"),
        ("text,intent\na\n", ":2: text and intent must not be empty"),
        ("text,intent\n", "has a header and no rows"),
        ("", "has no column"),
    ],
)
def test_a_file_that_will_not_do_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        read_questions(written(tmp_path, text))
    assert "asked.csv" in str(caught.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_questions(tmp_path / "nowhere.csv")
    (tmp_path / "bytes.csv").write_bytes(b"text,intent\n\xff,a\n")
    with pytest.raises(DataError, match="cannot be read"):
        read_questions(tmp_path / "bytes.csv")


def test_the_command_prints_both_rates_and_names_the_embedder(tmp_path: Path) -> None:
    rows = ["Where is my card?,card", "Where is my CARD?,card", "Where is my card!!,loan", "Good morning,greeting"]
    path = written(tmp_path, "text,intent\n" + "\n".join(rows) + "\n")
    done = CliRunner().invoke(cli.app, ["semantic-sweep", str(path), "--thresholds", "0.5,1"])
    assert done.exit_code == 0, done.output
    assert "asked.csv: 4 questions, 3 intents; embedder: static" in done.output
    table = [line.split() for line in done.output.strip().splitlines()[-3:]]
    assert " ".join(table[0]) == "threshold hit rate wrong of all wrong of hits"
    assert table[1][:2] == ["0.5", "50.0%"]
    assert table[2][:2] == ["1", "25.0%"]
    shorter = CliRunner().invoke(cli.app, ["semantic-sweep", str(path), "--limit", "2"])
    assert "2 questions" in shorter.output
    assert len(shorter.output.strip().splitlines()) == 3 + len(THRESHOLDS)


@pytest.mark.parametrize("thresholds", ["", "x", "0.9,", "0", "1.1", "nan"])
def test_a_threshold_that_is_none_is_named(tmp_path: Path, thresholds: str) -> None:
    path = written(tmp_path, "text,intent\na,b\n")
    done = CliRunner().invoke(cli.app, ["semantic-sweep", str(path), "--thresholds", thresholds])
    assert done.exit_code == 2
    assert "above 0 and up to 1" in " ".join(re.sub(r"[│╭╮╰╯─]", " ", done.output).split())
