"""The sampler as a process: beside pages of every kind, a library of ours, a mock; and it goes when it is not wanted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from harness.clock import boot_id, monotonic
from harness.gpu.file import GpuFile, read_gpu_file
from harness.gpu.sampler import main
from harness.gpu.sources import Sources, sources_of
from harness.launch import start_sampler
from harness.safety.targets import Permission
from tests.conftest import REPOSITORY, mock_server
from tests.gpu.fake import build_fake_nvml, write_state
from tests.gpu.pages import serving_pages

pytestmark = pytest.mark.realtime


def _wait(path: Path, enough: Callable[[GpuFile], bool], seconds: float = 15.0) -> None:
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        found = read_gpu_file(path)
        if found is not None and enough(found):
            return
        time.sleep(0.05)
    raise AssertionError(f"not in {seconds} s: {path.read_text() if path.exists() else 'no file'}")


def _read(path: Path) -> GpuFile:
    found = read_gpu_file(path)
    assert found is not None
    return found


def test_pages_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each source goes on by itself: what is slow, endless, broken or gone costs the others nothing."""
    monkeypatch.setenv("HARNESS_API_KEY", "sk-a-secret")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    out = tmp_path / "gpu.jsonl"
    with serving_pages() as pages:
        names = ("good", "late", "elsewhere", "garbage", "nonsense", "endless", "silent", "missing")
        urls = {name: f"{pages.url}/{name}" for name in names} | {"nobody": "http://127.0.0.1:1/metrics"}
        sources = Sources(target=f"{pages.url}/trial", exporters=tuple(urls.values()))
        with start_sampler(sources, out=out, every_s=0.1):
            _wait(out, lambda found: {urls["silent"], urls["endless"]} <= {note.source for note in found.notes})
            _wait(out, lambda found: urls["late"] in {sample.source for sample in found.gpus})
        after, queries = dict(pages.asked), dict(pages.queries)
    found = _read(out)
    why = {note.source: note.why_not for note in found.notes}
    assert why.pop(f"{pages.url}/trial") == why[urls["missing"]] == "HTTP status 404"
    assert after["/trial"] == 1, "nobody said that it knows of GPUs: it is not asked again"
    assert after["/missing"] > 1, "an exporter may come yet"
    asked = parse_qs(queries["/trial"])["name[]"]
    assert {"DCGM_FI_DEV_POWER_USAGE", "vllm:num_requests_running"} <= set(asked), (
        "the server under test is asked for what is read"
    )
    assert queries["/missing"] == "", "an exporter's page is asked for as it was named"
    assert why[urls["late"]] == "HTTP status 503"
    assert why[urls["elsewhere"]] == "HTTP status 302", "a redirect is not followed"
    assert why[urls["garbage"]] == "its answer is not HTTP"
    assert "not Prometheus' text format" in why[urls["nonsense"]]
    assert why[urls["endless"]] == "more than 8 MiB"
    assert why[urls["silent"]] == "no whole answer in time"
    assert "refused" in why[urls["nobody"]]
    assert urls["good"] not in why
    assert {sample.source for sample in found.gpus} == {urls["good"], urls["late"]}
    assert {sample.power_w for sample in found.gpus} == {123.5}
    good = [sample.at for sample in found.gpus if sample.source == urls["good"]]
    assert len(good) > 10
    assert sorted(good)[len(good) // 2] <= monotonic()
    assert found.header.boot_id == boot_id()
    assert found.whole
    assert "sk-a-secret" not in pages.headers + out.read_text()
    assert "authorization" not in pages.headers
    assert "cookie" not in pages.headers


def test_the_binding_in_the_sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counters move while it reads; the driver goes away and comes back."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(build_fake_nvml(tmp_path)))
    state, out = tmp_path / "state", tmp_path / "gpu.jsonl"
    monkeypatch.setenv("FAKE_NVML", str(write_state(state)))
    with start_sampler(Sources(nvml=True), out=out, every_s=0.05):
        _wait(out, lambda found: len(found.gpus) >= 8)
        write_state(state, {"gpu1.energy": 7_500_000, "gpu1.power": 400_000})
        _wait(out, lambda found: any(sample.power_w == 400.0 for sample in found.gpus))
        state.unlink()
        _wait(out, lambda found: bool(found.notes))
        write_state(state, {"gpu1.energy": 8_000_000})
        _wait(out, lambda found: any(sample.energy_j == 8000.0 for sample in found.gpus))
    found = _read(out)
    energies = [sample.energy_j for sample in found.gpus if sample.gpu.startswith("GPU-bbbb") and sample.mig is None]
    assert list(dict.fromkeys(energies)) == [7000.0, 7500.0, 8000.0]
    assert [note.why_not for note in found.notes] == ["NVML says: Driver Not Loaded"]
    assert found.whole


def test_beside_a_mock(tmp_path: Path) -> None:
    """The mock's GPU is simulated and says so; its meter and its scheduler are read on one clock with the requests."""
    out = tmp_path / "gpu.jsonl"
    with mock_server("h100-8b") as url:
        sources = sources_of(url + "/v1", [], Permission(), mock=True)
        with start_sampler(sources, out=out, every_s=0.1):
            _wait(out, lambda found: len(found.gpus) >= 2)
            body = b'{"model": "llama-3.1-8b", "prompt": "one two", "max_tokens": 40, "ignore_eos": true}'
            asked = urllib.request.Request(f"{url}/v1/completions", body, {"Content-Type": "application/json"})
            began = monotonic()
            with urllib.request.urlopen(asked, timeout=20) as answer:
                answer.read()
            ended = monotonic()
    found = _read(out)
    assert found.whole
    assert {(sample.simulated, sample.source) for sample in found.gpus} == {(True, f"{url}/metrics")}
    assert found.servers[0].num_output_tokens == 0
    assert found.servers[-1].num_output_tokens == 40, "the last reading comes after the last request"
    busy = [sample.at for sample in found.gpus if (sample.utilization or 0) > 0]
    assert busy
    assert min(busy) >= began - 0.1
    first, last = found.gpus[0], found.gpus[-1]
    assert last.at >= ended
    assert first.energy_j is not None
    assert last.energy_j is not None
    idle_j = 70.0 * (last.at - first.at)  # an H100 draws 70 W when idle, up to 700 W (mockllm/profiles/gpus)
    assert idle_j < last.energy_j - first.energy_j < idle_j + 630 * (ended - began)


def test_it_goes_with_the_process_that_started_it(tmp_path: Path) -> None:
    """A run that is killed leaves no sampler behind."""
    out = tmp_path / "gpu.jsonl"
    script = (
        "import os, sys, time\nfrom pathlib import Path\nfrom harness.gpu.sources import Sources\n"
        "from harness.launch import start_sampler\n"
        "with start_sampler(Sources(nvml=True), out=Path(sys.argv[1])):\n    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(out)], cwd=REPOSITORY)
    _wait(out, lambda found: True)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait(10)
    _wait(out, lambda found: found.whole, 10.0)


def test_nothing_to_read_starts_nothing(tmp_path: Path) -> None:
    with start_sampler(Sources(), out=tmp_path / "gpu.jsonl"):
        pass
    assert not (tmp_path / "gpu.jsonl").exists()


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gpu.jsonl").write_text("mine")
    assert main(["--out", str(tmp_path / "gpu.jsonl"), "--nvml"]) == 2
    assert "cannot write GPU readings" in capsys.readouterr().err
    assert (tmp_path / "gpu.jsonl").read_text() == "mine"


@pytest.mark.parametrize(
    "words", [["--every", "0"], ["--every", "nan"], ["--metrics", "ftp://x"], ["--metrics", "http://a:b@c"]]
)
def test_words_that_make_no_sense(tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: int | str | None = main(["--out", str(tmp_path / "gpu.jsonl"), *words])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert capsys.readouterr().err
    assert not (tmp_path / "gpu.jsonl").exists()
