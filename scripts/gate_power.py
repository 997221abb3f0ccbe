"""How often gates refuse a model against itself, and catch a planted loss: writes benchmarks/gate_power.json.

Usage: `python scripts/gate_power.py [--trials 400]`; ten minutes on one core, no model is run. A model is a probability
of a right answer for each item, or a mean nll of each text. To evaluate it is to draw from that, so two evaluations of
one model differ as sampled answers do; every trial draws new items too. Judged are the gates of the engine as they are.
docs/gates.md shows the tables.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.load import load
from pipeline.judging.gates import GateResult, judge_results
from pipeline.judging.statistics import Items
from pipeline.schema import Gate

TARGET = Path(__file__).parents[1] / "benchmarks" / "gate_power.json"
LOSS = 0.05  # planted: of all items, or 5 % of perplexity
Floats = np.ndarray


@dataclass(frozen=True)
class Design:
    """A suite: how many items in how many clusters (0 = each its own), and how much evaluations of one model differ."""

    items: int
    clusters: int = 0
    perplexity: bool = False
    margin: float = 0.02
    noise: float = 0.03  # of perplexity: nats by which two evaluations of a text differ
    certain: float = 0.6  # of right or wrong: the lower, the more items are always right or always wrong


DESIGNS = {
    "right or wrong, 40 items": Design(40),
    "right or wrong, 100 items": Design(100),
    "right or wrong, 400 items": Design(400),
    "right or wrong, 1,600 items": Design(1600),
    "right or wrong, 1,600 items, steadier": Design(1600, certain=0.2),
    "right or wrong, 100 items in 20 clusters": Design(100, 20),
    "right or wrong, 400 items in 80 clusters": Design(400, 80),
    "right or wrong, 3,200 items in 640 clusters": Design(3200, 640),
    "perplexity, 10 texts": Design(10, perplexity=True),
    "perplexity, 28 texts": Design(28, perplexity=True),
    "perplexity, 28 texts of 14 owners": Design(28, 14, perplexity=True),
    "perplexity, 100 texts": Design(100, perplexity=True),
}
LEGAL = {  # the suites of `legal` that its blocking gates read, in their sizes
    "general_text": Design(28, perplexity=True),
    "domain_text": Design(28, perplexity=True),
    "instructions": Design(36),
    "refusal": Design(80),
}


@dataclass
class Measured:
    """Results in memory, as the gates read them."""

    summary: dict[str, dict[str, Any]]
    found: dict[str, Items]

    def items(self, suite: str) -> Items:
        return self.found[suite]


@dataclass
class Model:
    """What one model is on one drawn set of items: logits of a right answer, or mean nll; n of each."""

    design: Design
    levels: Floats
    weights: Floats
    clusters: list[str]

    @classmethod
    def draw(cls, design: Design, rng: np.random.Generator) -> "Model":
        groups = design.clusters or design.items
        at = np.arange(design.items) % groups
        if design.perplexity:
            levels = rng.normal(3, 0.3, groups)[at] + rng.normal(0, 0.2, design.items)
        else:
            p = np.clip(rng.beta(1.5 * design.certain, design.certain, design.items), 1e-6, 1 - 1e-6)
            levels = np.log(p / (1 - p)) + (rng.normal(0, 1, groups)[at] if design.clusters else 0)
        weights = rng.integers(40, 129, design.items) if design.perplexity else np.ones(design.items)
        return cls(design, levels, weights.astype(float), [f"c{k:05}" for k in at])

    def evaluate(self, rng: np.random.Generator, loss: float = 0.0) -> Items:
        """One evaluation. What items of a cluster share moves together from one evaluation to the next."""
        groups = self.design.clusters or self.design.items
        shared = rng.normal(0, 1, groups)[np.arange(self.design.items) % groups]
        if self.design.perplexity:
            scores = self.levels + self.design.noise * shared + np.log1p(loss)
        else:
            moved = self.levels + (0.5 * shared if self.design.clusters else 0)
            scores = (rng.random(self.design.items) < 1 / (1 + np.exp(-moved))).astype(float)
            scores[rng.random(self.design.items) < loss / max(scores.mean(), loss)] = 0
        ids = [f"i{k:05}" for k in range(self.design.items)]
        return Items(ids, self.clusters, scores, self.weights)


def evaluations(designs: Mapping[str, Design], losses: Mapping[str, float], rng: np.random.Generator) -> dict:
    """name -> results of one model that is evaluated once for each name, with the loss of that name."""
    models = {suite: Model.draw(design, rng) for suite, design in designs.items()}
    metric = {True: ("perplexity", False), False: ("accuracy", True)}
    summary = {
        suite: dict(zip(("metric", "higher_is_better"), metric[design.perplexity], strict=True))
        for suite, design in designs.items()
    }
    return {
        name: Measured(summary, {suite: model.evaluate(rng, loss) for suite, model in models.items()})
        for name, loss in losses.items()
    }


def judged(design: Design, gate: Gate, loss: float, rng: np.random.Generator) -> GateResult:
    results = evaluations({"suite": design}, {"base": 0.0, "new": loss}, rng)
    return judge_results({"gate": replace(gate, margin=gate.margin and design.margin)}, results, {})[0]


def one_gate(design: Design, trials: int, seed: int) -> dict[str, float]:
    """Shares of trials: an unchanged model refused or found better, a loss of 5 points or of `seen_from` caught."""
    rng = np.random.default_rng(seed)
    bare, keeps = Gate("new", "suite", "not_worse"), Gate("new", "suite", "not_worse", margin=1.0)
    same = [judged(design, bare, 0.0, rng) for _ in range(trials)]
    kept = [judged(design, keeps, 0.0, rng) for _ in range(trials)]
    better = [judged(design, Gate("new", "suite", "improves"), 0.0, rng) for _ in range(trials)]
    lost = [judged(design, keeps, LOSS, rng) for _ in range(trials)]
    seen_from = float(np.mean([one.seen_from for one in kept]))
    least = [judged(design, keeps, seen_from, rng) for _ in range(trials)] if seen_from < 0.5 else []
    return {
        "unchanged_refused_without_margin": share(same),
        "unchanged_refused_with_margin": share(kept),
        "unchanged_found_better": 1 - share(better),
        "margin": design.margin,
        "seen_from": seen_from,
        "loss_of_5_points_caught": share(lost),
        "loss_seen_from_caught": share(least) if least else float("nan"),
    }


def share(results: list[GateResult]) -> float:
    """Of refused ones."""
    return float(np.mean([not one.passed for one in results]))


def legal_gates() -> dict[str, Gate]:
    """Those that can refuse a model of `legal` for a loss."""
    gates = load(["experiment=legal"]).experiment.gates
    return {name: gate for name, gate in gates.items() if gate.rule == "not_worse" and gate.action == "block"}


def chain(gates: Mapping[str, Gate], scale: int, trials: int, seed: int) -> dict[str, float]:
    """Trials in which a chain of stages that change nothing passes every gate, and in which each single stage does."""
    rng, inputs = np.random.default_rng(seed), {"sft": "base", "domain": "sft", "dpo": "domain"}
    designs = {suite: replace(design, items=scale * design.items) for suite, design in LEGAL.items()}
    stages = sorted({gate.stage for gate in gates.values()})
    passed, decisions = 0, 0
    for _ in range(trials):
        results = evaluations(designs, dict.fromkeys(["base", *inputs], 0.0), rng)
        verdicts = [
            all(
                one.passed
                for one in judge_results({n: g for n, g in gates.items() if g.stage == stage}, results, inputs)
            )
            for stage in stages
        ]
        passed, decisions = passed + all(verdicts), decisions + sum(verdicts)
    return {"chains_passed": passed / trials, "stages_passed": decisions / trials / len(stages), "gates": len(gates)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=400)
    trials = parser.parse_args().trials
    single = {}
    for seed, (name, design) in enumerate(DESIGNS.items()):
        single[name] = one_gate(design, trials, seed)
        print(name, {key: round(value, 4) for key, value in single[name].items()}, flush=True)
    gates, chains = legal_gates(), {}
    for correction in ("holm", "none"):
        for margin in ("as set", "zero"):
            chosen = {
                name: replace(gate, correction=correction, **({"margin": 0.0} if margin == "zero" else {}))
                for name, gate in gates.items()
            }
            for scale in (1, 8):
                key = f"correction {correction}, margin {margin}, {scale} times the items"
                chains[key] = chain(chosen, scale, trials, 100 + scale)
                print(key, chains[key], flush=True)
    TARGET.write_text(json.dumps({"trials": trials, "single": single, "legal": chains}, indent=1) + "\n")


if __name__ == "__main__":
    main()
