"""Where readings may come from: the rules for targets, and no key anywhere."""

from __future__ import annotations

import pytest

from harness.errors import TargetError, UsageError
from harness.gpu.sources import Sources, metrics_url, sources_of
from harness.safety.targets import Permission

_HOSTS = {
    "127.0.0.1": ["127.0.0.1"],
    "localhost": ["127.0.0.1", "::1"],
    "gpu-1": ["10.0.0.7"],
    "api.example.com": ["93.184.216.34"],
    "metadata": ["169.254.169.254"],
}


def _resolve(url: str) -> list[str]:
    host = url.partition("//")[2].partition("/")[0].partition(":")[0]
    if host not in _HOSTS:
        raise TargetError(f"nothing answers at {url}")
    return _HOSTS[host]


@pytest.mark.parametrize(
    ("target", "mock", "nvml", "own"),
    [
        ("http://127.0.0.1:8000", False, True, "http://127.0.0.1:8000/metrics"),
        ("http://localhost:8000/v1", False, True, "http://localhost:8000/metrics"),
        ("http://127.0.0.1:8000/", True, False, "http://127.0.0.1:8000/metrics"),
        ("http://gpu-1:8000/llm/v1/", False, False, "http://gpu-1:8000/llm/metrics"),
        ("http://api.example.com", False, False, None),  # not allowed: refused by the load, not asked here
        ("http://metadata", False, False, None),
        ("http://nobody:8000", False, False, None),
    ],
)
def test_the_target(target: str, mock: bool, nvml: bool, own: str | None) -> None:
    assert sources_of(target, [], Permission(), mock=mock, resolve=_resolve) == Sources(nvml, own)


def test_an_allowed_public_host_is_asked() -> None:
    permission = Permission(frozenset({"api.example.com"}))
    found = sources_of("https://api.example.com/v1", [], permission, resolve=_resolve)
    assert found == Sources(False, "https://api.example.com/metrics", (), ("api.example.com",))
    assert found.words() == ["--target", "https://api.example.com/metrics", "--allow-host", "api.example.com"]


def test_exporters() -> None:
    found = sources_of(
        "http://127.0.0.1:8000", ["http://gpu-1:9400", "http://127.0.0.1:8000/metrics"], Permission(), resolve=_resolve
    )
    assert found.exporters == ("http://gpu-1:9400/metrics", "http://127.0.0.1:8000/metrics")
    assert found.target is None, "the page is read once, and not on trial: it was named"
    assert found.words() == ["--nvml", "--metrics", found.exporters[0], "--metrics", found.exporters[1]]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://metadata/latest", "metadata service"),
        ("http://api.example.com:9400/metrics", "public internet"),
        ("http://nobody:9400", "nothing answers"),
        ("http://user:secret@gpu-1:9400", "credentials"),
        ("http://gpu-1:9400/metrics?token=secret", "without"),
        ("gpu-1:9400", "write it like"),
        ("file:///etc/passwd", "write it like"),
        ("http://gpu-1:port/", "Port"),
    ],
)
def test_what_is_refused(url: str, words: str) -> None:
    with pytest.raises((UsageError, TargetError), match=words) as caught:
        sources_of("http://127.0.0.1:8000", [url], Permission(), resolve=_resolve)
    assert "secret" not in str(caught.value)


def test_a_path_of_its_own_is_kept() -> None:
    assert metrics_url("http://127.0.0.1:9400/gpu/metrics") == "http://127.0.0.1:9400/gpu/metrics"
    assert metrics_url("https://gpu:9400/") == "https://gpu:9400/metrics"


def test_nothing_to_read() -> None:
    assert not Sources(hosts=("x",))
    assert Sources(nvml=True)
