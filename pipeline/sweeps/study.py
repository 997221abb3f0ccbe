"""`sweeper=optuna`: trials one batch after the other, each chosen by Optuna from what came out of those before.

A study keeps no state of its own. Optuna is asked for as many trials as the launcher runs at a time and told their
results in their order, so the same command asks for the same trials again; those that are in the store cost nothing.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.compose import parse
from pipeline.config.load import load
from pipeline.config.search import config_folders
from pipeline.config.typed import nearest
from pipeline.display import Screen
from pipeline.errors import ConfigError
from pipeline.folds import Chain, sweep
from pipeline.guard import Answer
from pipeline.manifest import read_json
from pipeline.schema import Gate
from pipeline.sweeps.grid import Sweep, first_cell, grid
from pipeline.sweeps.multirun import document, run_cells

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from optuna import Study
    from optuna.distributions import BaseDistribution

BAR = "pruned_"  # begins the name of a gate that prunes
ROUNDING = 1e-9  # of a bar: the same model measured again is not worse than itself


@dataclass
class Trial:
    """One trial: its overrides, its chains (one for each fold), what they measured."""

    number: int  # from 0, as in Optuna
    overrides: list[str]
    asked: Any = field(repr=False, default=None)  # Optuna's own
    chains: list[Chain] = field(default_factory=list, repr=False)
    value: float | None = None
    measured: dict[str, float] = field(default_factory=dict)  # of `prune`

    @property
    def code(self) -> int:
        """The highest exit code of its chains; a trial that only a bar has stopped is none that failed."""
        return max(0 if _pruned(chain) else chain.code for chain in self.chains)

    @property
    def state(self) -> str:
        """complete | pruned (by a bar or by a gate of the experiment) | failed."""
        if all(chain.code == 0 for chain in self.chains) and self.value is not None:
            return "complete"
        return "pruned" if all(chain.code in (0, 3) for chain in self.chains) else "failed"

    def json(self) -> dict[str, Any]:
        runs = [chain.record.get("run_id") for chain in self.chains]
        known = {"overrides": self.overrides, "state": self.state, "value": self.value, "exit": self.code}
        return {"number": self.number + 1, **known, "measured": self.measured, "runs": runs}


def study(swept: Sweep, options: argparse.Namespace, screen: Screen) -> Answer:
    """All trials of the study, then the best; {runs, exit, study}."""
    optuna = _optuna()
    asked, fixed = _space(swept.words, options)
    _check(swept, [*fixed, *first_cell(asked)], options)
    space = {found.get_key_element(): _distribution(found) for found in asked}
    sampler = optuna.samplers.TPESampler(seed=swept.sweeper.seed, n_startup_trials=swept.sweeper.startup)
    running = optuna.create_study(direction=swept.sweeper.direction, sampler=sampler)
    trials: list[Trial] = []
    while len(trials) < swept.sweeper.trials:
        batch = min(
            swept.launcher.workers if swept.launcher.kind != "serial" else 1, swept.sweeper.trials - len(trials)
        )
        new = [_ask(running, space, fixed) for _ in range(batch)]
        _run(new, trials, swept, options, screen)
        for trial in new:
            _tell(running, trial, swept)
            screen.say(_told(trial, swept))
        trials += new
    return _answer(trials, swept, options, screen)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("sweeper=optuna needs the package optuna: pip install 'journeyman[optuna]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


# -- the space ----------------------------------------------------------------------------------------------------
def _space(words: Sequence[str], options: argparse.Namespace) -> "tuple[list[Override], list[str]]":
    """The overrides that are searched, and the others as they are."""
    overrides = parse(words, config_folders(options.config_dir))
    asked = [found for found in overrides if found.is_sweep_override()]
    if not asked:
        raise ConfigError("sweeper=optuna: nothing to search; give a key several values or an interval, as "
                          "stages.dpo.train.beta='tag(log, interval(0.02, 0.5))'")  # fmt: skip
    return asked, [str(found.input_line) for found in overrides if not found.is_sweep_override()]


def _distribution(found: "Override") -> "BaseDistribution":
    """What Optuna draws from: an interval (of whole numbers, if both ends are), else one of the values."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not found.is_interval_sweep():
        return CategoricalDistribution(list(found.sweep_string_iterator()))
    value: Any = found.value()
    kind = IntDistribution if isinstance(value.start, int) and isinstance(value.end, int) else FloatDistribution
    try:
        return kind(value.start, value.end, log="log" in value.tags)
    except ValueError as error:
        raise ConfigError(f"{found.input_line}: {error}") from error


def _check(swept: Sweep, first: list[str], options: argparse.Namespace) -> None:
    """ConfigError, before anything runs, for a study without a goal or whose first trial cannot be composed."""
    asked = swept.sweeper
    if not asked.metric or not asked.direction:
        raise ConfigError("sweeper=optuna needs sweeper.metric, as eval_dpo.preference or dpo.final_loss, and "
                          "sweeper.direction=maximize or minimize")  # fmt: skip
    experiment = load(first, options.config_dir).experiment
    stages, suites = ["base", *experiment.stages], list(experiment.eval.suites)
    for key, text in (("metric", asked.metric), *(("prune", text) for text in asked.prune)):
        node, dot, name = text.partition(".")
        stage = node.removeprefix("eval_")
        if not dot or not name:
            raise ConfigError(f"sweeper.{key}={text}: give NODE.METRIC, as eval_dpo.preference or dpo.final_loss")
        if stage not in stages:
            raise ConfigError(f"sweeper.{key}={text}: there is no stage '{stage}'{nearest(stage, stages)}")
        if node != stage and name not in suites:
            raise ConfigError(f"sweeper.{key}={text}: there is no suite '{name}'{nearest(name, suites)}")
        if key == "prune" and node == stage:
            raise ConfigError(f"sweeper.prune={text}: give the evaluation of a stage, as eval_{stage}.SUITE")


# -- trials -------------------------------------------------------------------------------------------------------
def _ask(running: "Study", space: "Mapping[str, BaseDistribution]", fixed: Sequence[str]) -> Trial:
    asked = running.ask(dict(space))
    return Trial(asked.number, [*fixed, *(f"{key}={value}" for key, value in asked.params.items())], asked)


def _run(new: list[Trial], done: list[Trial], swept: Sweep, options: argparse.Namespace, screen: Screen) -> None:
    """Run the trials at a time, each with the bars that the finished ones before it set."""
    bars = {f"{BAR}{text.replace('.', '_')}": _bar(text, done, swept.sweeper.startup) for text in swept.sweeper.prune}
    cells = [grid([*trial.overrides, *sweep(swept.opened)], options.config_dir) for trial in new]
    flat, first = [cell for some in cells for cell in some], 1 + sum(len(trial.chains) for trial in done)
    known = {name: gate for name, gate in bars.items() if gate}
    chains = run_cells(options, screen, swept, flat, first, known)
    for trial, some in zip(new, cells, strict=True):
        trial.chains, chains = chains[: len(some)], chains[len(some) :]
        trial.value = _mean(swept.sweeper.metric or "", trial.chains)
        found = {text: _mean(text, trial.chains) for text in swept.sweeper.prune}
        trial.measured = {text: value for text, value in found.items() if value is not None}


def _bar(text: str, done: Sequence[Trial], least: int) -> Gate | None:
    """A gate that stops a trial after an evaluation that is worse than the median of the complete trials before it."""
    complete = [trial for trial in done if trial.state == "complete" and text in trial.measured]
    if len(complete) < least:
        return None
    node, _, suite = text.partition(".")
    better = _higher_is_better(complete[0].chains[0], node, suite)
    median = statistics.median(trial.measured[text] for trial in complete)
    value = median - (ROUNDING if better else -ROUNDING) * abs(median)
    rule = "at_least" if better else "at_most"
    return Gate(stage=node.removeprefix("eval_"), suite=suite, rule=rule, value=value)


def _pruned(chain: Chain) -> bool:
    """Whether nothing but bars has stopped the chain."""
    refused = [gate for gate in chain.record.get("gates", []) if not gate["passed"] and gate["action"] == "block"]
    return chain.code == 3 and all(gate["name"].startswith(BAR) for gate in refused)


def _tell(running: "Study", trial: Trial, swept: Sweep) -> None:
    from optuna.trial import TrialState

    for step, text in enumerate(swept.sweeper.prune):
        if text in trial.measured:
            trial.asked.report(trial.measured[text], step)
    states = {"complete": None, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    running.tell(trial.asked, trial.value if trial.state == "complete" else None, states[trial.state])


# -- what was measured --------------------------------------------------------------------------------------------
def _mean(text: str, chains: Sequence[Chain]) -> float | None:
    """The metric's mean over the chains (the folds); None where one of them has no such number."""
    node, _, name = text.partition(".")
    found = [_metrics(chain, node).get(name) for chain in chains]
    return statistics.fmean(found) if all(isinstance(value, int | float) for value in found) else None  # type: ignore[arg-type]


def _metrics(chain: Chain, node: str) -> dict[str, Any]:
    folder = _folder(chain, node)
    return read_json(folder / "manifest.json")["metrics"] if folder else {}


def _folder(chain: Chain, node: str) -> Path | None:
    """Where the chain's artifact of that name is."""
    path = chain.record.get("stages", {}).get(node, {}).get("path")
    return Path(chain.record["resolved_config"]["store"]["root"] or "store") / path if path else None


def _higher_is_better(chain: Chain, node: str, suite: str) -> bool:
    folder = _folder(chain, node)
    assert folder is not None  # its chain is complete
    return bool(read_json(folder / "results" / "summary.json")[suite]["higher_is_better"])


# -- what is said -------------------------------------------------------------------------------------------------
def _told(trial: Trial, swept: Sweep) -> str:
    value = "" if trial.value is None else f" {swept.sweeper.metric} {trial.value:.6g}"
    return f"trial {trial.number + 1} of {swept.sweeper.trials}: {trial.state}{value}"


def _best(trials: Sequence[Trial], direction: str | None) -> Trial | None:
    complete = [trial for trial in trials if trial.state == "complete"]
    sign = -1 if direction == "maximize" else 1
    return min(complete, key=lambda trial: sign * trial.value, default=None)  # type: ignore[operator]


def _answer(trials: list[Trial], swept: Sweep, options: argparse.Namespace, screen: Screen) -> Answer:
    """The table of trials, the best first, and the document."""
    best, asked = _best(trials, swept.sweeper.direction), swept.sweeper
    _, found = document(options, screen, [chain for trial in trials for chain in trial.chains])
    common = set.intersection(*(set(trial.overrides) for trial in trials))
    screen.say()
    screen.rows([
        (f"trial {trial.number + 1}", trial.state, "" if trial.value is None else f"{trial.value:.6g}",
         " ".join(word for word in trial.overrides if word not in common))
        for trial in trials
    ])  # fmt: skip
    if best:
        screen.say(
            f"best: trial {best.number + 1}, {asked.metric} {best.value:.6g}; the best of many is favoured by luck"
        )
    told = {"metric": asked.metric, "direction": asked.direction, "best": best.number + 1 if best else None}
    code = max(trial.code for trial in trials)
    return code, {**found, "exit": code, "study": {**told, "trials": [trial.json() for trial in trials]}}
