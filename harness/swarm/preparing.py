"""From the options of a command line to a run that can start: its plan, its settings, its manifest."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from locust.argument_parser import default_args_dict

from harness.doctor.certificate import attached, certificate_path
from harness.errors import UsageError
from harness.objectives import objectives_of
from harness.plan import LoadPlan, ReactivePlan, cut_at
from harness.prices import Prices, priced
from harness.safety.secrets import require_secret
from harness.store import Manifest, machine, versions
from harness.swarm.guarding import admit, permission_of, prices_of, require_end
from harness.swarm.options import DEFAULT_MAX_IN_FLIGHT, PlanOptions
from harness.swarm.probe import choose_model
from harness.swarm.run import RunSettings
from harness.swarm.transport import api_key, parse_target
from harness.swarm.users import LLMUser
from harness.terms import terms

__all__ = ["Asked", "manifest_of", "plan_of", "prepare", "terms_of"]

_HIDDEN = {"harness_settings", "harness_shares", "harness_asked", "harness_salt"}
_LOG = logging.getLogger("harness")


@dataclass(frozen=True, slots=True)
class Asked:
    """Locust's -r, -t and -u as they were given, before Locust puts 1 in the place of what is missing."""

    rate: float | None = None
    duration_s: float | None = None
    users: int | None = None

    @property
    def max_in_flight(self) -> int:
        return self.users or DEFAULT_MAX_IN_FLIGHT


def plan_of(user_class: type[LLMUser], options: Namespace, asked: Asked) -> LoadPlan:
    """The plan the command line asks for, cut at -t. Raises UsageError for one that holds no request."""
    own = PlanOptions(
        asked.rate, asked.duration_s, asked.max_in_flight, int(options.seed), str(options.harness_salt), options
    )
    plan = user_class.plan(own)
    if asked.duration_s is not None and not isinstance(plan, ReactivePlan):
        plan = cut_at(plan, asked.duration_s)
    if plan.num_arrivals == 0:
        raise UsageError(f"the plan holds no request in its {plan.duration_s:g} s; raise -r or -t")
    return plan


def prepare(
    user_class: type[LLMUser], host: str, options: Namespace, asked: Asked, num_workers: int, wall: float
) -> tuple[RunSettings, LoadPlan]:
    """Settings and plan of a run that may be started, but for the directory it goes to. `wall` dates the prices.

    Raises UsageError and TargetError for a run that may not.
    """
    if num_workers > 1 and user_class.one_process:
        raise UsageError(f"{user_class.__name__} needs all answers in one process: run it without workers")
    plan = plan_of(user_class, options, asked)
    require_end(plan, options)
    target, permission = str(parse_target(host)), permission_of(options)
    if (note := admit(host, permission)) is not None:
        _LOG.info("%s", note)
    model = choose_model(host, options.model, user_class.dialect.headers)
    prices = prices_of(options, target, [model, *sorted(getattr(plan, "models", frozenset()) - {model})], wall)
    settings = RunSettings(
        run_id="",
        uid=uuid4().hex,
        path="",
        scenario=Path(sys.modules[user_class.__module__].__file__ or user_class.__name__).stem,
        target=target,
        model=model,
        stream=not options.whole,
        exact_length=not options.any_length,
        seed=int(options.seed),
        salt=options.harness_salt,
        protocol=user_class.dialect.name,
        fresh_connections=options.fresh_connections,
        num_retries=options.retries,
        read_timeout_s=float(options.timeout),
        max_in_flight=asked.max_in_flight,
        drain_s=float(options.drain),
        shard_index=0,
        num_shards=num_workers,
        objective=options.objective,
        budget_usd=float(options.budget) if options.budget else None,  # the web UI's form gives text
        prices=None if prices is None else prices.plain(),
        price_source="" if prices is None else prices.source,
        price_version=None if prices is None else prices.version,
        allowed_hosts=tuple(sorted(permission.hosts)),
        plain_http=permission.plain_http,
    )
    return settings, plan


def terms_of(options: Namespace, duration_s: float) -> dict[str, Any]:
    """What the options say that the run is judged by, as fields of the manifest. Raises UsageError."""
    return terms(
        slo=options.slo,
        warmup_s=float(options.warmup),
        duration_s=duration_s,
        labels=options.label,
        gpu_price_per_hour=options.gpu_price,
        month_requests=options.per_month,
        environ=os.environ,
        cwd=Path.cwd(),
    )


def manifest_of(settings: RunSettings, plan: LoadPlan, options: Namespace, wall: float) -> Manifest:
    """What is written down of a run before it starts. Of the options those that Locust does not know: ours and the
    scenario's."""
    known_to_locust, here, software = set(default_args_dict()), machine(), versions()
    prices = Prices.of(settings.prices, settings.price_source, settings.price_version) if settings.prices else None
    manifest = Manifest(
        run_id=settings.run_id,
        uid=settings.uid,
        scenario=settings.scenario,
        target=settings.target,
        model=settings.model,
        seed=settings.seed,
        command=["locust", *(shlex.quote(word) for word in sys.argv[1:])],
        options={name: value for name, value in vars(options).items() if name not in known_to_locust | _HIDDEN},
        plan=plan.describe(),
        num_planned=plan.num_arrivals,
        duration_s=plan.duration_s,
        max_in_flight=settings.max_in_flight,
        num_workers=settings.num_shards,
        started_wall=wall,
        versions=software,
        machine=here,
        reactive=isinstance(plan, ReactivePlan),
        objectives=objectives_of(plan, options.objective),
        certificate=attached(here, software, certificate_path(os.environ)),
        prices=priced(prices),
        **terms_of(options, plan.duration_s),
    )
    require_secret(api_key(), msgspec.json.encode(manifest).decode())
    return manifest
