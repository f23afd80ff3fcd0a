"""Where the suites run: source distributions of the installed SDKs, and a virtual environment for them."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from conformance.suites import SUITES

__all__ = ["Sandbox", "prepare"]

_DOWNLOAD_S = 300
_INSTALL_S = 600
_PIP = ("-m", "pip", "--disable-pip-version-check", "-qq")
# Of the suites' development requirements those that the tests import; the others are linters and other services' SDKs.
_NEEDED = {
    "dirty-equals",
    "http-snapshot",
    "importlib-metadata",
    "inline-snapshot",
    "nest-asyncio",
    "packaging",
    "pytest",
    "pytest-asyncio",
    "pytest-xdist",
    "respx",
    "rich",
    "time-machine",
    "trio",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A prepared folder. `sources` are the unpacked distributions by SDK, `python` is the environment's."""

    python: Path
    sources: dict[str, Path]
    versions: dict[str, str]
    plugins: Path


def prepare(folder: Path) -> Sandbox:
    """Download, unpack and install what is not there yet.

    The SDKs are of the versions that are installed beside the mock. Raises subprocess.CalledProcessError and
    subprocess.TimeoutExpired where a package cannot be had.
    """
    versions = {suite.sdk: version(suite.sdk) for suite in SUITES}
    sources = {sdk: _source(folder, sdk, release) for sdk, release in versions.items()}
    python = _environment(folder / "venv", sources, versions)
    return Sandbox(python, sources, versions, _plugins(folder / "plugins"))


def _source(folder: Path, sdk: str, release: str) -> Path:
    source = folder / f"{sdk}-{release}"
    if not source.exists():
        command = [sys.executable, *_PIP, "download", "--no-binary", sdk, "--no-deps", f"{sdk}=={release}"]
        _run([*command, "--dest", str(folder)], _DOWNLOAD_S)
        with tarfile.open(folder / f"{sdk}-{release}.tar.gz") as archive:
            archive.extractall(folder, filter="data")
    return source


def _environment(venv: Path, sources: dict[str, Path], versions: dict[str, str]) -> Path:
    python = venv / "bin" / "python"
    done = venv / ".ready"
    if not done.exists():
        _run([sys.executable, "-m", "venv", str(venv)], _INSTALL_S)
        sdks = [f"{sdk}[aiohttp]=={release}" for sdk, release in versions.items()]
        needed = [each for source in sources.values() for each in _requirements(source / "pyproject.toml")]
        _run([str(python), *_PIP, "install", "pytest-timeout", *sdks, *sorted(set(needed))], _INSTALL_S)
        done.touch()
    return python


def _requirements(pyproject: Path) -> list[str]:
    groups = tomllib.loads(pyproject.read_text())["dependency-groups"]
    found = [(_NAME.match(each), each) for each in groups["dev"] if isinstance(each, str)]
    return [each for name, each in found if name and name[0].lower().replace("_", "-") in _NEEDED]


def _plugins(folder: Path) -> Path:
    """A copy of this package alone: the suites must not find our other packages, `tests` above all."""
    package = folder / "conformance"
    package.mkdir(parents=True, exist_ok=True)
    for name in ("__init__.py", "objects.py", "plugin.py", "stand_ins.py"):
        (package / name).write_bytes((Path(__file__).parent / name).read_bytes())
    return folder


def _run(command: list[str], timeout_s: float) -> None:
    subprocess.run(command, check=True, timeout=timeout_s)  # noqa: S603 - our own words, never a shell
