"""What a reward model is worth on pairs that it was not trained on: accuracy, calibration, length, and disagreement."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StageFailed
from stages.evaluation.measurement import scored
from stages.evaluation.preference import TIE
from stages.evaluation.results import SuiteResult, summarise
from stages.rewards.calibration import Calibration, calibration
from stages.rewards.pairs import Judged

Floats = NDArray[np.float64]
LONG = 0.5  # rank correlation with the length from which on a reward is mostly about length


@dataclass(frozen=True)
class Scores:
    """Of K members on N pairs, each (K, N). `tokens` (2, N): lengths of chosen and rejected answers, EOS included."""

    raw_chosen: Floats
    raw_rejected: Floats
    chosen: Floats  # rewards
    rejected: Floats
    tokens: Floats

    @property
    def probability(self) -> Floats:
        """(N,): that the chosen answer is better, the mean of what the members say (Bradley & Terry 1952)."""
        return (1 / (1 + np.exp(self.raw_rejected - self.raw_chosen))).mean(axis=0)

    @property
    def spread(self) -> Floats:
        """(2, N): standard deviation of the members' rewards for either answer; 0 for a single member."""
        both = np.stack([self.chosen, self.rejected], axis=1)
        return both.std(axis=0, ddof=1) if len(both) > 1 else np.zeros(both.shape[1:])


@dataclass(frozen=True)
class Examined:
    """Held-out results, ready to be written."""

    accuracy: SuiteResult
    calibration: Calibration
    length_correlation: float
    spread: float
    tied: int  # pairs without a better answer: they count in the calibration, not in the accuracy


def examine(pairs: Sequence[Judged], scores: Scores) -> Examined:
    """Everything that is measured on the pairs, of which at least one has a better answer.

    StageFailed for a score that is no number: a broken model must not look like a bad one.
    """
    for pair, p in zip(pairs, scores.probability.tolist(), strict=True):
        if not math.isfinite(p):
            raise StageFailed(f"held-out row {pair.row['id']} has a score that is no number; the weights are broken")
    items = [
        scored(pair.row, _right(p), answer=_preferred(pair, p), reference=pair.chosen)
        for pair, p in zip(pairs, scores.probability.tolist(), strict=True) if not pair.tied
    ]  # fmt: skip
    rewards = np.concatenate([scores.chosen.mean(axis=0), scores.rejected.mean(axis=0)])
    return Examined(
        SuiteResult("heldout", "reward", "preference_accuracy", True, items),
        calibration(scores.probability, [pair.target for pair in pairs]),
        rank_correlation(rewards, scores.tokens.reshape(-1)),
        float(scores.spread.mean()),
        sum(pair.tied for pair in pairs),
    )


def _right(probability: float) -> float:
    return 0.5 if abs(probability - 0.5) <= TIE else float(probability > 0.5)


def _preferred(pair: Judged, probability: float) -> str:
    return pair.chosen if probability > 0.5 else pair.rejected


def rank_correlation(a: Floats, b: Floats) -> float:
    """Spearman's rho of two rows of N numbers; 0 where one of them is constant."""
    from scipy.stats import rankdata

    ranks = [rankdata(values) for values in (a, b)]
    if any(np.ptp(values) == 0 for values in ranks):
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


def alarms(found: Examined) -> list[dict[str, str]]:
    """What a person should look at before training on these rewards."""
    rho = found.length_correlation
    if abs(rho) < LONG:
        return []
    word = "longer" if rho > 0 else "shorter"
    return [{
        "name": "reward_follows_length",
        "detail": f"{word} answers earn more (rank correlation {rho:.2f} with the length in tokens); add pairs whose "
        f"{word} answer is the worse one, or set a length term against it in the reward of ppo",
    }]  # fmt: skip


def metrics(found: Examined) -> dict[str, float]:
    """For the manifest."""
    right = [item.score for item in found.accuracy.items]
    return {
        "heldout_accuracy": sum(right) / len(right), "ece": found.calibration.ece, "brier": found.calibration.brier,
        "length_correlation": found.length_correlation, "spread": found.spread,
    }  # fmt: skip


def write(pairs: Sequence[Judged], scores: Scores, found: Examined, folder: Path) -> None:
    """`summary.json` and, pair by pair, `items.parquet`."""
    folder.mkdir(parents=True, exist_ok=True)
    summary = {
        "accuracy": summarise(found.accuracy), "calibration": asdict(found.calibration),
        "length_correlation": found.length_correlation, "spread": found.spread, "members": len(scores.chosen),
        "pairs": len(pairs), "tied": found.tied,
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    _write_items(pairs, scores, folder / "items.parquet")


def _write_items(pairs: Sequence[Judged], scores: Scores, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    named = [scored(pair.row, 0.0) for pair in pairs]
    columns: dict[str, Any] = {name: [getattr(item, name) for item in named] for name in ("item", "cluster", "prompt")}
    columns["slices"] = [json.dumps(item.slices, ensure_ascii=False, sort_keys=True) for item in named]
    columns |= {name: [getattr(pair, name) for pair in pairs] for name in ("chosen", "rejected", "target")}
    columns["probability"] = scores.probability
    for number, side in enumerate(("chosen", "rejected")):
        columns[f"reward_{side}"] = getattr(scores, side).mean(axis=0)
        columns[f"spread_{side}"] = scores.spread[number]
        columns[f"tokens_{side}"] = scores.tokens[number].astype(int)
    parquet.write_table(pa.table(columns), path, compression="zstd")
