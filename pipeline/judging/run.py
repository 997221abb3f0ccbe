"""What a run does with results: gates after each evaluation, and at its end the files that say how it stands.

numpy and pyarrow are imported only when there is something to judge.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.judging.sentences import size
from pipeline.judging.verdicts import readable, write_verdicts
from pipeline.manifest import write_json
from pipeline.node import Node
from pipeline.references import policies, prompts, rivals

if TYPE_CHECKING:
    from pipeline.runner import Run


def judge_ready(run: "Run", node: Node) -> None:
    """Judge every gate whose results have come by this node; a refused blocking one blocks what is made from its model.

    Results that the store has of later nodes do not count yet, so that a run judges the same whether built or found.
    """
    nodes = run.plan.nodes
    results = _results(run, node.name)
    judged = {entry["name"] for entry in run.record["gates"]}
    ready = {
        name: gate
        for name, gate in run.plan.experiment.gates.items()
        if name not in judged and results.keys() >= {gate.stage, *rivals(gate, nodes)}
    }
    if not ready:
        return
    from pipeline.judging.gates import judge

    for result in judge(ready, results, policies(nodes), [name for name in prompts(nodes) if name in results]):
        run.record["gates"].append({key: readable(value) for key, value in asdict(result).items()})
        run.screen.say(f"  {run.screen.status('GATE' if result.passed else 'REFUSED')} {result.sentence}")
        if not result.passed and result.action == "block":
            run.blocked.setdefault(result.stage, f"gate {result.sentence}")
    run.save()


def conclude(run: "Run") -> None:
    """Write `gates.json`, `gates.xml` and `matrix.json`; say what each suite can see, and where that is too little."""
    gates = {name: asdict(gate) for name, gate in run.plan.experiment.gates.items()}
    if gates:
        write_verdicts(run.folder, run.record, gates)
    if results := _results(run):
        from pipeline.judging.forgetting import cached_matrix

        found = cached_matrix(results, policies(run.plan.nodes), run.store.cache / "matrix")
        write_json(run.folder / "matrix.json", found)
        run.screen.say(told(found))
    if small := Counter(entry["suite"] for entry in run.record["gates"] if entry["too_small"]):
        suites = ", ".join(f"{suite} ({count} gates)" for suite, count in small.items())
        run.screen.say(f"warning: too few items to see a change of the margin that gates set: {suites}")


def told(matrix: Mapping[str, Any]) -> str:
    """The minimum detectable effect of every suite, and which stage lost what."""
    metrics = {entry["suite"]: entry["metric"] for entry in matrix["entries"]}
    seen = [f"{suite} {size(at, metrics[suite])}" for suite, at in matrix["detectable"].items()]
    lost = [f"{suite} by `{stage}`" for suite, stage in matrix["caused_by"].items() if stage]
    return f"seen 8 times in 10 at 95 % confidence: a change of {', '.join(seen)}" + (
        f"\nlost: {', '.join(lost)}" if lost else ""
    )


def _results(run: "Run", until: str | None = None) -> Mapping[str, Path]:
    """Model -> folder of its evaluation, for those up to a node in this run's order."""
    reached = list(run.plan.nodes.values())
    reached = reached[: [node.name for node in reached].index(until) + 1] if until else reached
    kept = {name for name, entry in run.record["stages"].items() if entry["path"]}
    return {
        node.name.removeprefix("eval_"): node.stored.path
        for node in reached
        if node.name.startswith("eval_") and node.stored and node.name in kept
    }
