"""Evaluate: one model on every suite of the experiment, loaded once, results kept item by item."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict

from pipeline.beside import AGAINST, JUDGE, role_of
from pipeline.context import Artifact, Context, Measured
from pipeline.errors import ConfigError, DataError
from pipeline.registry import Stage, register
from pipeline.schema import LATER, StageConfig, Suite
from stages.evaluation import MEASUREMENTS, judge_prompts, known, own_checks, refusal_rules
from stages.evaluation.gap import check_outside, gap
from stages.evaluation.measurement import Measurement, Others, Row, heldout, read_params
from stages.evaluation.results import SuiteResult, write
from stages.training.config import refuse_training

if TYPE_CHECKING:
    from stages.models.chain import Policy

NONE = "(none)"  # slice of the items that lack a column


@dataclass
class EvaluateConfig(StageConfig):
    suites: Dict[str, Suite] = field(default_factory=dict)
    engine: str = field(default="own", metadata=LATER)  # as `eval.engine`


@register("evaluate", config=EvaluateConfig)
class Evaluate(Stage):
    version, consumes, produces = 1, {"model": "measurable"}, "results"

    def needs(self, config: EvaluateConfig) -> dict[str, str]:
        """The measured model, and what suites name as judge or opponent."""
        others = {role: JUDGE if role.startswith(role_of(JUDGE, "")) else "measurable" for role in config.inputs}
        return {**others, **self.consumes}

    def fingerprints(self, config: EvaluateConfig) -> dict[str, str]:
        """The packages that bring checks, by version; what judges are asked; the rules for refusals."""
        judged = any(suite.judge for suite in config.suites.values())
        refusing = any(suite.measure in ("refusal", "generate") for suite in config.suites.values())
        return {
            **own_checks.versions(),
            **({"judge_prompts": judge_prompts.VERSION} if judged else {}),
            **({"refusal_rules": refusal_rules.VERSION} if refusing else {}),
        }

    def items(self, name: str, suite: Suite) -> dict[str, Any] | None:
        """A misspelt measure is found by `validate`, unless the suite lacks its data for that reason."""
        known = MEASUREMENTS.get(suite.measure)
        if suite.data and not (known and known.brings_items):
            return None
        measurement, params = _measurement(name, suite)
        return measurement.items(params) if measurement.brings_items else None

    def validate(self, config: EvaluateConfig) -> None:
        if not config.suites:
            raise ConfigError("eval.suites is empty: there is nothing to measure")
        refuse_training(config.runtime, "eval.runtime", "an evaluation")
        if config.engine != "own":
            from stages.kernels.vllm import check_engine

            check_engine(config.engine, config.runtime, where="eval.engine")
        for name, suite in config.suites.items():
            _check_others(name, suite)
            if suite.limit < 0:
                raise ConfigError(f"eval.suites.{name}.limit={suite.limit}: use 0 for all items, or a positive number")

    def diagnose(self, of: Measured, sets: Mapping[str, Artifact], curve: Mapping[float, Measured]) -> dict[str, Any]:
        from stages.diagnosis.artifacts import diagnosis

        return diagnosis(of, sets, curve)

    def run(self, ctx: Context) -> dict[str, float]:
        config: EvaluateConfig = ctx.config
        rows = {name: suite_rows(name, suite, ctx) for name, suite in config.suites.items()}
        files = {name: known_file(suite, ctx) for name, suite in config.suites.items()}
        found = {name: None if ctx.forced else known.result(file, name) for name, file in files.items()}
        ctx.record("timing", timing := {"load_seconds": 0.0, "suites": dict.fromkeys(found, 0.0)})
        if reused := [name for name, result in found.items() if result]:
            ctx.record("known", reused)
            ctx.log(f"known of this model, from {ctx.cache / 'results'}: {', '.join(reused)}")
        policy = _loaded(ctx, timing) if len(reused) < len(found) else None
        for number, (name, suite) in enumerate(config.suites.items()):
            ctx.progress(number, len(config.suites))
            if found[name] is None:
                start = time.perf_counter()
                found[name] = measure(name, suite, policy, rows[name], config.runtime.micro_batch, others(suite, ctx))
                found[name].finite()
                known.keep(files[name], asdict(found[name]))
                timing["suites"][name] = round(time.perf_counter() - start, 3)
                ctx.log(f"{name}: {len(rows[name])} items in {timing['suites'][name]:.1f} s")
        if policy is not None and policy.engine is not None:
            policy.engine.record(ctx)
        return write(list(found.values()), ctx.out)


def _loaded(ctx: Context, timing: dict[str, Any]) -> "Policy":
    """The measured model; the seconds that it took are added to `timing`."""
    _threads(ctx.config.runtime.threads)
    start = time.perf_counter()
    policy = opened(ctx, ctx.inputs["model"])
    timing["load_seconds"] = round(time.perf_counter() - start, 3)
    return policy


def known_file(suite: Suite, ctx: Context) -> Path:
    """Where the suite's result on this model is kept in the store's cache."""
    beside = others(suite, ctx)
    return known.file_of(
        ctx.cache, suite, beside.own, ctx.data[suite.data], {JUDGE: beside.judge, AGAINST: beside.against},
        Evaluate().fingerprints(ctx.config), _where(ctx.config),
    )  # fmt: skip


def _where(config: EvaluateConfig) -> str:
    """Where answers come from: the device, and another engine than the model itself."""
    return config.runtime.device if config.engine == "own" else f"{config.runtime.device}, {config.engine}"


def _threads(count: int) -> None:
    """CPU threads of this process; 0 leaves torch's own choice, one for each core."""
    if count:
        import torch

        torch.set_num_threads(count)


def _measurement(name: str, suite: Suite) -> tuple[Measurement, Any]:
    """The suite's measurement and its checked params."""
    where = f"eval.suites.{name}"
    if suite.measure not in MEASUREMENTS:
        near = get_close_matches(str(suite.measure), MEASUREMENTS, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{where}.measure={suite.measure}: known measures are {', '.join(MEASUREMENTS)}{hint}")
    measurement = MEASUREMENTS[suite.measure]
    return measurement, read_params(measurement.params, dict(suite.params), f"{where}.params")


def _check_others(name: str, suite: Suite) -> None:
    measurement, params = _measurement(name, suite)
    try:
        measurement.check_others(params, suite.judge, suite.against)
    except ConfigError as error:
        raise ConfigError(f"eval.suites.{name}.{error}") from None


def opened(ctx: Context, artifact: Artifact) -> "Policy":
    """A model as this evaluation runs it."""
    from stages.kernels.vllm import answered_by
    from stages.models.chain import load_policy

    runtime = ctx.config.runtime
    policy = load_policy(
        artifact, ctx.lineage, device=runtime.device, cache=ctx.cache, dequant_cache_gib=runtime.dequant_cache_gib
    )
    return answered_by(policy, ctx.config.engine)


def others(suite: Suite, ctx: Context) -> Others:
    """The suite's judge and opponent, to be loaded as the measured model is."""
    named = {key: ctx.inputs[role_of(key, name)] if (name := getattr(suite, key)) else None for key in (JUDGE, AGAINST)}
    return Others(ctx.inputs["model"], named[JUDGE], named[AGAINST], partial(opened, ctx), ctx.cache, ctx.forced)


def suite_rows(name: str, suite: Suite, ctx: Context) -> list[Row]:
    """The items of the suite, checked; DataError names the first that cannot be measured."""
    measurement, params = _measurement(name, suite)
    rows = heldout(ctx.data[suite.data].path, suite.data)
    for row in rows:
        missing = [key for key in ("id", *measurement.fields) if key not in row]
        if missing:
            raise DataError(
                f"suite {name}: item {row.get('id', '?')} of data set '{suite.data}' has no {', '.join(missing)}, "
                f"which {suite.measure} needs"
            )
    rows = limited(measurement, measurement.select(rows, params), params, suite.limit)
    if not rows:
        raise DataError(f"suite {name}: the held-out part of data set '{suite.data}' has no items for {suite.measure}")
    for row in rows:
        measurement.check(row, params)
    rows = sliced(name, rows, suite.slices)
    check_outside(name, rows, suite.outside)
    return rows


def sliced(name: str, rows: list[Row], columns: list[str]) -> list[Row]:
    """The rows with the values of these columns among their slices; ConfigError for a column that no row has."""
    plain = {key for row in rows for key, value in row.items() if isinstance(value, str | int | float)}
    if lost := [column for column in columns if column not in plain]:
        near = get_close_matches(lost[0], plain, 1)
        hint = f"did you mean {near[0]}?" if near else f"they have {', '.join(sorted(plain))}"
        raise ConfigError(
            f"eval.suites.{name}.slices: no item has a column '{lost[0]}' with texts or numbers; {hint} (`keep` of a "
            "data set keeps further columns of its files)"
        )
    found = [{column: row.get(column, NONE) for column in columns} for row in rows]
    return [{**row, "slices": {**row.get("slices", {}), **own}} for row, own in zip(rows, found, strict=True)]


def limited(measurement: Measurement, rows: list[Row], params: Any, limit: int) -> list[Row]:
    """The rows of `limit` units, spread evenly over the set; 0 for all."""
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(measurement.unit(row, params), row)
    taken = {measurement.unit(row, params) for row in spread(list(first.values()), limit)}
    return [row for row in rows if measurement.unit(row, params) in taken]


def spread(rows: list[Row], limit: int) -> list[Row]:
    """`limit` rows spread evenly over the set, 0 for all: one from each of `limit` equal stretches.

    Within a stretch the id's hash decides, because a fixed step through a set that alternates (yes, no, yes, no) would
    pick one kind only.
    """
    if not limit or limit >= len(rows):
        return rows
    stretches = [rows[k * len(rows) // limit : (k + 1) * len(rows) // limit] for k in range(limit)]
    return [min(stretch, key=lambda row: hashlib.sha256(str(row["id"]).encode()).digest()) for stretch in stretches]


def measure(
    name: str, suite: Suite, policy: "Policy", rows: list[Row], micro_batch: int, beside: Others
) -> SuiteResult:
    measurement, params = _measurement(name, suite)
    metric, higher_is_better = measurement.metric(params)
    items = measurement.run_beside(policy, rows, params, micro_batch, beside)
    details = measurement.details(items, params)
    if suite.outside:
        details["metrics"] = {**details.get("metrics", {}), **gap(items, suite.outside, metric)}
    return SuiteResult(name, suite.measure, metric, higher_is_better, items, details)
