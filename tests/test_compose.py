"""`docker-compose.yml` without a container engine: its schema, its safety, and its commands run as processes."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.conftest import REPOSITORY

_VARIABLE = re.compile(r"\$\{([A-Z_]+):-([^}]*)\}")


def _compose(**values: str) -> dict[str, Any]:
    """The file as the engine reads it: variables filled in, with the defaults where nothing is given."""
    text = (REPOSITORY / "docker-compose.yml").read_text()
    document: dict[str, Any] = yaml.safe_load(_VARIABLE.sub(lambda found: values.get(found[1], found[2]), text))
    return document


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = _compose()["services"]
    return found


def test_it_fits_the_compose_specification() -> None:
    schema = json.loads((REPOSITORY / "tests" / "vendor" / "compose_spec.json").read_text())
    jsonschema.Draft7Validator(schema).validate(_compose())


@pytest.mark.parametrize("broken", [{"prots": []}, {"healthcheck": {"tst": []}}, {"command": {"a": 1}}])
def test_the_schema_finds_mistakes(broken: dict[str, Any]) -> None:
    schema = json.loads((REPOSITORY / "tests" / "vendor" / "compose_spec.json").read_text())
    document = _compose()
    document["services"]["mock"].update(broken)
    assert not jsonschema.Draft7Validator(schema).is_valid(document)


def test_every_port_of_the_host_is_bound_to_this_machine(services: dict[str, dict[str, Any]]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert sorted(published) == ["127.0.0.1:8000:8000", "127.0.0.1:8089:8089"]  # Locust's 5557 is not among them


@pytest.mark.parametrize("name", ["mock", "master", "worker"])
def test_every_service_is_confined_and_watched(services: dict[str, dict[str, Any]], name: str) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "devices"} & service.keys()
    assert service["healthcheck"]["test"][0] == "CMD"


def test_the_image_runs_as_nobody_special_and_holds_what_the_commands_need() -> None:
    lines = (REPOSITORY / "docker" / "Dockerfile").read_text().splitlines()
    assert next(line for line in reversed(lines) if line.startswith("USER")) == "USER 10001"
    copied = {word.strip("./") for line in lines if line.startswith("COPY") for word in line.split()[1:-1]}
    kept = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == kept
    assert all((REPOSITORY / name).exists() for name in copied)


def test_workers_scale_with_what_the_master_waits_for() -> None:
    scaled = _compose(WORKERS="5")["services"]
    assert scaled["worker"]["deploy"]["replicas"] == 5
    assert "--expect-workers=5" in scaled["master"]["command"]


def test_no_key_stands_in_the_file(services: dict[str, dict[str, Any]]) -> None:
    """Named, never given a value: the engine passes them through from the shell."""
    assert (
        services["master"]["environment"]
        == services["worker"]["environment"]
        == [
            "HARNESS_API_KEY",
            "HARNESS_ALLOW_HOSTS",
        ]
    )


# -- the commands, as processes ------------------------------------------------------------------------------


@pytest.mark.realtime
def test_the_services_come_up_and_a_run_completes_on_two_workers(tmp_path: Path) -> None:
    """Names of services become this machine, ports become free ones; all else is as it stands in the file."""
    (tmp_path / "scenarios").symlink_to(REPOSITORY / "scenarios")
    ports = dict(zip((8000, 8089, 5557), _free_ports(3), strict=True))
    found = _compose(MOCK="instant", RATE="20", DURATION="2s", WORKERS="2")["services"]
    with ExitStack() as stack:
        logs: dict[str, Path] = {}
        processes = []
        for name in ("mock", "master", "worker", "worker"):
            process, log = stack.enter_context(_running(_local(found[name]["command"], ports), tmp_path, len(logs)))
            logs[f"{name}-{process.pid}"] = log
            processes.append(process)
            if name != "worker":
                _wait_until_healthy(_local(found[name]["healthcheck"]["test"][1:], ports), process, log)
        _wait_until_healthy(_local(found["worker"]["healthcheck"]["test"][1:], ports), process, log)
        summary = _wait_for_summary(tmp_path / "runs", logs)
        for process in processes:  # all at once: each is waited for below
            process.terminate()
    assert summary["verdict"]["answer"] == "PASS", summary["verdict"]
    run = next((tmp_path / "runs").iterdir())
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["num_workers"] == 2
    counts = [path.read_bytes().count(b'"kind":"request"') for path in run.glob("records-*.jsonl")]
    assert len(counts) == 2
    assert sum(counts) == manifest["num_planned"]
    assert all(counts)


def _local(command: list[str], ports: dict[int, int]) -> list[str]:
    words = []
    for word in command:
        for port, free in ports.items():
            word = re.sub(rf"\b{port}\b", str(free), word)
        word = re.sub(r"\b0\.0\.0\.0\b", "127.0.0.1", word)
        word = re.sub(r"(?<=//)mock\b|(?<==)master\b|(?<=')master\b", "127.0.0.1", word)
        words.append(word)
    return words


@contextmanager
def _running(command: list[str], folder: Path, number: int) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A service's command, found where the image would find it: beside this Python."""
    log = folder / f"service-{number}.log"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=folder, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, "PATH": path}
        )
    try:
        yield process, log
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def _wait_until_healthy(check: list[str], process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 30
    while subprocess.run([sys.executable, *check[1:]], capture_output=True).returncode != 0:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)


def _wait_for_summary(runs: Path, logs: dict[str, Path]) -> dict[str, Any]:
    end = time.monotonic() + 40
    while not (summaries := list(runs.glob("*/summary.json"))):
        assert time.monotonic() < end, "\n".join(f"{name}:\n{log.read_text()}" for name, log in logs.items())
        time.sleep(0.2)
    found: dict[str, Any] = json.loads(summaries[0].read_text())
    return found


def _free_ports(num: int) -> list[int]:
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(num)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in taken]
