"""The `mockllm` command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from mockllm.building import build_engine, step_time
from mockllm.content.embedders import EMBEDDERS, EmbedderName
from mockllm.deployment import bundled_deployments, bundled_profiles, load_deployment, load_profile, profile_text
from mockllm.engine.latency import StepLoad
from mockllm.errors import MockError
from mockllm.profile import BatchedProfile, HostedProfile
from mockllm.semantic_sweep import THRESHOLDS, in_order, read_questions, sweep

__all__ = ["main"]

_THRESHOLDS = ",".join(f"{each:.2f}" for each in THRESHOLDS)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="A mock LLM server whose latencies follow from a model of the server behind it.",
)


@app.command()
def serve(
    what: Annotated[str, typer.Argument(help="A bundled profile (see `mockllm profiles`) or a YAML file.")] = "hosted",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    seed: Annotated[int | None, typer.Option(help="Seed of all random draws; overrides the file's.")] = None,
    ledger: Annotated[Path | None, typer.Option(help="Append what was planned and written, as JSON lines.")] = None,
) -> None:
    """Serve a profile or a deployment over HTTP, on this machine only unless --host says otherwise."""
    from mockllm.server.run import serve as run  # the HTTP stack is slow to import and only needed here

    deployment = load_deployment(what)
    models = ", ".join(deployment.names)

    def ready(url: str) -> None:
        print(f"mockllm: {deployment.name} at {url} (models: {models})", flush=True)

    run(deployment, host=host, port=port, seed=seed, ledger_path=ledger, ready=ready)


@app.command()
def profiles(
    name: Annotated[str | None, typer.Argument(help="Print this one's file, to start one of your own from.")] = None,
) -> None:
    """List the bundled profiles with their headline numbers, or print one."""
    if name is not None:
        print(profile_text(name), end="")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("profile", "model", "first token", "per token"):
        table.add_column(column, no_wrap=True, min_width=11 if "token" in column else 15)
    table.add_column("what it is", no_wrap=True, overflow="ellipsis")
    for each in bundled_profiles():
        profile = load_profile(each)
        ttft, tpot = _headline(profile)
        table.add_row(each, profile.model, f"{ttft * 1e3:.0f} ms", f"{tpot * 1e3:.1f} ms", profile.summary)
    Console().print(table)
    print("\nOne request with 500 prompt tokens and nobody else. `mockllm profiles NAME` prints the file.")


@app.command()
def check(file: Annotated[Path, typer.Argument(help="A profile or deployment file.")]) -> None:
    """Check a file against all rules; exit code 0 when it keeps them."""
    deployment = load_deployment(str(file))
    build_engine(deployment, every_token=False)  # finds GPUs and models that do not exist or do not fit
    print(f"{file}: ok, serves {', '.join(deployment.names)}")


@app.command()
def explain(
    what: Annotated[str, typer.Argument(help="A bundled name, or a profile or deployment file.")],
) -> None:
    """Say in words what a request meets on its way, in order."""
    from mockllm.explain import explained

    print(explained(load_deployment(what)))


@app.command()
def semantic_sweep(
    file: Annotated[Path, typer.Argument(help="CSV with a text and an intent (or category, label) column.")],
    embedder: Annotated[EmbedderName, typer.Option(help="Who turns texts into vectors.")] = "static",
    thresholds: Annotated[str, typer.Option(help="Cosines from which on it is a hit.")] = _THRESHOLDS,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many of the questions.")] = None,
) -> None:
    """How often a semantic cache hits, and how often wrongly, over thresholds."""
    questions = in_order(read_questions(file))[:limit]
    outcomes = sweep(questions, EMBEDDERS[embedder](), _parsed_thresholds(thresholds))
    table = Table(box=None, pad_edge=False)
    for column in ("threshold", "hit rate", "wrong of all", "wrong of hits"):
        table.add_column(column, justify="right")
    for each in outcomes:
        of_hits = "-" if each.wrong_hit_rate is None else f"{each.wrong_hit_rate:.1%}"
        table.add_row(f"{each.threshold:g}", f"{each.hit_rate:.1%}", f"{each.wrong_rate:.1%}", of_hits)
    num_intents = len({question.intent for question in questions})
    print(f"{file.name}: {len(questions):,} questions, {num_intents} intents; embedder: {embedder}\n")
    Console().print(table)


def _parsed_thresholds(text: str) -> list[float]:
    try:
        thresholds = [float(each) for each in text.split(",")]
    except ValueError:
        thresholds = []
    if not thresholds or not all(0 < each <= 1 for each in thresholds):
        raise typer.BadParameter(f"{text!r} must be numbers above 0 and up to 1, with commas: 0.9,0.95")
    return thresholds


@app.command()
def policies(
    name: Annotated[str | None, typer.Argument(help="Say everything about this one.")] = None,
) -> None:
    """List what can stand in a deployment file, or explain one policy: what it does, by which law, with which keys."""
    from mockllm.policy_text import policy_names, policy_summary, policy_text

    if name is not None:
        print(policy_text(name))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for each in policy_names():
        table.add_row(each, policy_summary(each))
    Console().print(table)
    print("\n`mockllm policies NAME` says everything about one. Ready stacks:", ", ".join(bundled_deployments()))


def _headline(profile: BatchedProfile | HostedProfile) -> tuple[float, float]:
    """Median TTFT of a lone request with 500 prompt tokens, and its time per further token."""
    overhead = profile.overhead.median_s
    if isinstance(profile, BatchedProfile):
        duration = step_time(profile)
        prefill = duration.pace(StepLoad(500, 1, 500 * 250.0, 0, 0, 0)).first
        return overhead + prefill, duration.pace(StepLoad(0, 0, 0.0, 1, 500, 1)).first
    latency = profile.latency
    prompt = 500 * latency.per_token_s + 500**2 * latency.per_token_squared_s
    return overhead + latency.floor_s + latency.spread_median_s + prompt, latency.tpot_median_s


def main() -> None:
    """Run the command line; failures of the tool are one line on stderr and exit code 2."""
    try:
        app()
    except MockError as error:
        print(f"mockllm: {error}", file=sys.stderr)
        sys.exit(2)
