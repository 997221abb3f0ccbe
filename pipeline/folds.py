"""k-fold: the chains of an experiment that leaves `split.fold` open, and what their results say together.

Of a data set's split this module knows the keys `method`, `k` and `fold`; what a fold holds is its kind's business.
"""

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.report.collect import Node, Run, read_run
from pipeline.report.words import finite
from pipeline.schema import Experiment
from pipeline.store import Store

WORD = re.compile(r"\+*data\.([^.=]+)\.split\.fold=(.*)")  # an override that chooses a fold
GATED = 3  # exit code of a chain that a gate stopped: it has results, up to that gate


# -- which folds --------------------------------------------------------------------------------------------------
def kfold(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """data set -> {fold, k} for those that are split into folds."""
    splits = {name: asdict(config).get("split") or {} for name, config in experiment.data.items()}
    folded = {name: split for name, split in splits.items() if split.get("method") == "kfold"}
    return {name: {"fold": split.get("fold"), "k": split["k"]} for name, split in folded.items()}


def left_open(experiment: Experiment) -> dict[str, int]:
    """data set -> k where no fold is chosen: each of its folds is to be held out once."""
    return {name: split["k"] for name, split in kfold(experiment).items() if split["fold"] is None}


def at(opened: Iterable[str], fold: int) -> list[str]:
    """Overrides that choose one fold, the same number in every set."""
    return [f"data.{name}.split.fold={fold}" for name in opened]


def number(opened: Mapping[str, int]) -> int:
    """How many chains the open folds make. ConfigError where sets have different numbers and cannot be paired."""
    if len(set(opened.values())) > 1:
        told = ", ".join(f"data.{name}.split.k={k}" for name, k in opened.items())
        raise ConfigError(
            f"{told}: folds of several data sets are paired, fold 0 with fold 0 and so on, so k must be the same; give "
            "all of them one k, or choose a fold of all but one: data.NAME.split.fold=0"
        )
    return next(iter(opened.values()))


def sweep(opened: Mapping[str, int]) -> list[str]:
    """What makes a multirun go through the first set's folds; `paired` adds the others. ConfigError as `number`."""
    if not opened:
        return []
    return [f"data.{next(iter(opened))}.split.fold={','.join(map(str, range(number(opened))))}"]


def paired(overrides: Sequence[str], opened: Iterable[str]) -> list[str]:
    """The overrides of one cell, with the other sets at the fold of the first."""
    first, *others = [*opened] or [""]
    chosen = Chain(overrides).chosen.get(first)
    return [*overrides, *(f"data.{name}.split.fold={chosen}" for name in others)]


def told(opened: Mapping[str, int]) -> str:
    """The chains to come, for the terminal."""
    return f"kfold: {number(opened)} folds of {named(opened)}, {number(opened)} chains"


def named(sets: Iterable[str]) -> str:
    names = list(sets)
    return f"data set {names[0]}" if len(names) == 1 else f"data sets {', '.join(names)} (paired)"


def merge(found: list[dict[str, Any]], findings: Iterable[Mapping[str, Any]], fold: int) -> None:
    """Add one fold's findings of a check to those of the folds before it; `folds` says in which one was found."""
    for finding in findings:
        alike = [one for one in found if all(one.get(key) == finding.get(key) for key in ("level", "code", "data"))]
        known = next((one for one in alike if fold not in one["folds"]), None)
        if known:
            known["folds"].append(fold)
        else:
            found.append({**finding, "folds": [fold]})


# -- what the chains say together ---------------------------------------------------------------------------------
@dataclass(frozen=True)
class Chain:
    """One cell of a sweep over folds: its overrides, how it ended, its record or {error, exit}."""

    overrides: Sequence[str]
    code: int = 0
    record: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def chosen(self) -> dict[str, str]:
        """data set -> its fold, as the overrides choose it."""
        return {match[1]: match[2] for match in map(WORD.fullmatch, self.overrides) if match}

    @property
    def others(self) -> list[str]:
        """Overrides that do not choose a fold."""
        return [word for word in self.overrides if not WORD.fullmatch(word)]


def groups(cells: Iterable[Chain]) -> list[list[Chain]]:
    """Cells that differ in their folds alone, where there are at least two and one of them began."""
    found: dict[tuple[str, ...], list[Chain]] = {}
    for cell in cells:
        if cell.chosen:
            found.setdefault(tuple(cell.others), []).append(cell)
    return [group for group in found.values() if len(group) > 1 and any("run_id" in cell.record for cell in group)]


def write_summary(chains: Sequence[Chain]) -> tuple[dict[str, Any], list[str]]:
    """The summary, kept beside the runs of one of `groups`, and its lines for the terminal."""
    from pipeline.report import write_folds  # templates, only where there is something to show

    config = next(chain.record["resolved_config"] for chain in chains if "run_id" in chain.record)
    store = Store(Path(config["store"]["root"] or "store"))
    summary = summarise(chains, store.root)
    folder = store.new_run(summary["experiment"], "-folds")
    page, lines = write_folds(summary, folder)
    store.make_latest(folder, "latest-folds")
    return summary, [*lines, f"summary: {page}"]


def summarise(chains: Sequence[Chain], root: Path) -> dict[str, Any]:
    """Mean and spread over folds of every suite and loss, gates passed, how each chain ended. `root`: of the store.

    `values` has one entry for each of `folds`, None where the chain did not get that far.
    """
    runs = [_read(chain, root) for chain in chains]
    begun = [run for run in runs if run]
    known, sets = begun[0].data["folds"], _swept(chains)
    return {
        "experiment": begun[0].data["experiment"],
        "overrides": chains[0].others,
        "sets": {name: known[name]["k"] for name in sets if name in known},
        "exit": max(chain.code for chain in chains),
        "finished": sum(chain.code == 0 for chain in chains),
        "folds": [_fold(chain, run, sets) for chain, run in zip(chains, runs, strict=True)],
        "suites": _suites(runs),
        "losses": _losses(runs),
        "gates": _gates(runs),
    }


def spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean, standard deviation (divided by n - 1; None for one value), smallest and largest of what is there."""
    there = [value for value in values if value is not None]
    return {
        "mean": statistics.fmean(there) if there else None,
        "sd": statistics.stdev(there) if len(there) > 1 else None,
        "min": min(there, default=None),
        "max": max(there, default=None),
        "n": len(there),
        "values": list(values),
    }


def _swept(chains: Sequence[Chain]) -> list[str]:
    """Data sets that run through their folds, not those that stay at one."""
    return [name for name in chains[0].chosen if len({chain.chosen[name] for chain in chains}) > 1]


def _read(chain: Chain, root: Path) -> Run | None:
    """None for a chain that was refused before it began."""
    if "run_id" not in chain.record:
        return None
    return read_run(root / "runs" / chain.record["experiment"] / chain.record["run_id"], root)


def _fold(chain: Chain, run: Run | None, sets: Iterable[str]) -> dict[str, Any]:
    """How a chain ended; its fold is `0/1` where sets are at different ones."""
    return {
        "fold": "/".join(dict.fromkeys(chain.chosen[name] for name in sets)),
        "run": run.data["run_id"] if run else None,
        "exit": chain.code,
        "reason": _reason(chain, run),
        "seconds": chain.record.get("seconds"),
    }


def _reason(chain: Chain, run: Run | None) -> str | None:
    """Why a chain did not reach its end; None for one that did."""
    if chain.code == 0:
        return None
    if run is None:
        return str(chain.record.get("error"))
    failed = next((node for node in run.nodes.values() if node.status == "FAILED"), None)
    if failed:
        return f"{failed.name}: {failed.entry['reason']}"
    if chain.code == GATED:
        return "; ".join(gate["sentence"] for gate in run.data["gates"] if not gate["passed"])
    checks = [node for node in run.nodes.values() if node.entry.get("produces") == "findings"]
    broken = [(node, found) for node in checks for found in node.section("findings") if found["level"] == "error"]
    told = "; ".join(f"{node.name}: {found['code']}: {found['message']}" for node, found in broken)
    return told or f"it ended with exit code {chain.code}"


def _order(names: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(names))


def _nodes(runs: Sequence[Run | None], name: str) -> list[Node | None]:
    """The node of that name in each run, where it was made."""
    found = [run.nodes.get(name) if run else None for run in runs]
    return [node if node and node.folder else None for node in found]


def _same(runs: Sequence[Run | None], *names: str) -> bool:
    """Whether all folds used the same artifacts under these names, so that nothing made from them can differ."""
    made = [[node.entry["digest"] for node in _nodes(runs, name) if node] for name in names]
    return all(len(digests) > 1 and len(set(digests)) == 1 for digests in made)


def _measured(runs: Sequence[Run | None], suite: str) -> str:
    """The data set of a suite."""
    return next(str(run.config["eval"]["suites"][suite]["data"]) for run in runs if run)


def _suites(runs: Sequence[Run | None]) -> list[dict[str, Any]]:
    models = _order(node.name for run in runs if run for node in run.models if node.evaluation)
    rows = []
    for model in models:
        nodes = _nodes(runs, f"eval_{model}")
        read = [node.json("results/summary.json") if node else {} for node in nodes]
        for suite in _order(name for summary in read for name in summary):
            one = next(summary[suite] for summary in read if suite in summary)
            values = [finite(summary.get(suite, {}).get("value")) for summary in read]
            about = {key: one.get(key) for key in ("metric", "higher_is_better")}
            same = _same(runs, model, _measured(runs, suite))
            rows.append({"model": model, "suite": suite, **about, **spread(values), "same": same})
    return rows


def _losses(runs: Sequence[Run | None]) -> list[dict[str, Any]]:
    rows = []
    for stage in _order(node.name for run in runs if run for node in run.trained):
        nodes = _nodes(runs, stage)
        values = [finite(node.section("metrics").get("final_loss")) if node else None for node in nodes]
        if any(value is not None for value in values):
            rows.append({"stage": stage, **spread(values), "same": _same(runs, stage)})
    return rows


def _gates(runs: Sequence[Run | None]) -> list[dict[str, Any]]:
    """Each gate of the experiment; one that no fold reached was judged in 0."""
    asked = {name: gate for run in runs if run for name, gate in (run.config.get("gates") or {}).items()}
    judged = [{gate["name"]: gate["passed"] for gate in run.data["gates"]} if run else {} for run in runs]
    rows = []
    for name, gate in asked.items():
        values = [fold.get(name) for fold in judged]
        about = {key: gate.get(key) for key in ("stage", "suite", "rule", "action")}
        counts = {"passed": values.count(True), "judged": len(values) - values.count(None)}
        rows.append({"name": name, **about, **counts, "values": values})
    return rows
