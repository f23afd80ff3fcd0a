"""The commit of a run: from the environment, or from git."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.history.commit import commit_of, short_commit

HASH = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HARNESS_COMMIT": "v1.2.3"}, "v1.2.3"),
        ({"HARNESS_COMMIT": "feature/cache", "GITHUB_SHA": HASH}, "feature/cache"),
        ({"GITHUB_SHA": HASH, "CI_COMMIT_SHA": "f" * 40}, HASH),
        ({"CI_COMMIT_SHA": HASH}, HASH),
        ({"HARNESS_COMMIT": " ", "CI_COMMIT_SHA": HASH}, HASH),
    ],
)
def test_the_environment_is_asked_first(environ: dict[str, str], expected: str, tmp_path: Path) -> None:
    assert commit_of(environ, tmp_path) == expected


@pytest.mark.parametrize("value", ["a b", "<script>", "x" * 101, "-rf", "a\nb"])
def test_a_commit_that_is_none_is_refused(value: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="HARNESS_COMMIT="):
        commit_of({"HARNESS_COMMIT": value}, tmp_path)


@pytest.mark.parametrize(
    ("commit", "expected"),
    [(None, "–"), (HASH, "0123456789"), (f"{HASH}-dirty", "0123456789-dirty"), ("v1.2.3", "v1.2.3")],
)
def test_a_hash_is_shortened(commit: str | None, expected: str) -> None:
    assert short_commit(commit) == expected


@pytest.mark.realtime
def test_git_is_asked_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("git") is None:
        pytest.skip("NOT CHECKED: there is no git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    assert commit_of({}, tmp_path) is None
    assert commit_of({}, tmp_path / "missing") is None

    def git(*words: str) -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        done = subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet")
    assert commit_of({}, tmp_path) is None  # no commit yet
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "--quiet", "-m", "one")
    head = git("rev-parse", "HEAD")
    (tmp_path / "untracked").write_text("1")
    assert commit_of({}, tmp_path) == head
    (tmp_path / "file").write_text("2")
    assert commit_of({}, tmp_path) == f"{head}-dirty"
