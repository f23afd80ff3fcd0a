"""One line that names the machine a table was measured on."""

from __future__ import annotations

from harness.store import machine, versions

__all__ = ["machine_line"]


def machine_line() -> str:
    about, software = machine(), versions()
    memory = (about["memory_bytes"] or 0) / 2**30
    return (
        f"{about['cpu'] or about['architecture']}, {about['num_cpus']} CPUs, {memory:.0f} GiB, {about['system']}, "
        f"Python {software['python']}"
    )
