"""The sections of the report as plain data, every number already printed, so that both templates say the same."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.report import words
from pipeline.report.collect import MADE, WORKED, Node, Run
from pipeline.report.effect import Effect
from pipeline.report.plots import curves

LABELS = {"peft": "Adapter"}
RECORDED = ("python", "hardware", "packages")  # of a manifest's `env`


def box(node: Node) -> dict[str, Any]:
    """A node as the chain and the lineage print it."""
    built = node.manifest.get("seconds") if node.status == "HIT" else None
    return {
        "name": node.name,
        "kind": node.kind,
        "status": node.status,
        "time": f"built in {words.duration(built)}" if built is not None else words.duration(node.entry.get("seconds")),
        "id": str(node.entry.get("id") or ""),
        "short": str(node.entry.get("id") or "")[:8],
        "reason": node.entry.get("reason") or "",
    }


def chain(run: Run) -> list[dict[str, Any]]:
    """A box for each model and reward model, in order; `joined` says that it continues the box before it."""
    boxes: list[dict[str, Any]] = []
    for node in run.steps:
        mark = box(node.evaluation) if node.evaluation else None
        joined = bool(boxes) and boxes[-1]["name"] in node.parents
        source = (run.config.get("model") or {}).get("source", "") if node.kind == "base" else ""
        links = {"joined": joined, "parents": node.parents, "sets": node.sets}
        boxes.append({**box(node), **links, "eval": mark, "source": source, "measured": held_out(node)})
    return boxes


def held_out(node: Node) -> str:
    """What a reward model is worth on the pairs that it measured itself on, in a few words."""
    found = node.json("results/summary.json").get("accuracy") if node.entry.get("produces") == "reward" else None
    return f"right on {words.share(found['value'])} of {words.count(found['n'])} held-out pairs" if found else ""


def datasets(run: Run) -> list[dict[str, Any]]:
    return [{**box(node), **_quality(node)} for node in run.datasets]


def _quality(node: Node) -> dict[str, Any]:
    quality = node.json("data/quality.json") or node.section("data")
    kinds = ("read", "kept", "repaired", "rejected", "train", "heldout")
    fields = {kind: words.count(quality.get(f"rows_{kind}")) for kind in kinds}
    lists = {key: counted(quality.get(key) or {}) for key in ("reasons", "tasks")}
    return {**fields, **lists, "words": words.count(quality.get("words"))}


def counted(counts: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and count of what occurred, the commonest first."""
    seen = [(name, number) for name, value in counts.items() if (number := words.finite(value))]
    return [(name, words.count(number)) for name, number in sorted(seen, key=lambda pair: -pair[1])]


def training(run: Run) -> list[dict[str, Any]]:
    """What each training stage read, how it was set, its curves and its probes."""
    return [{**box(node), "made": node.status in MADE, **_training(node)} for node in run.trained]


def _training(node: Node) -> dict[str, Any]:
    data = node.section("data")
    metrics = {key: value for key, value in node.section("metrics").items() if words.finite(value) is not None}
    return {
        "fed": {key: words.count(data.get(key)) for key in ("rows_kept", "rows_rejected", "tokens", "trained_tokens")},
        "because": counted(data.get("rejected_because") or {}),
        "padding": {key: words.share(value) for key, value in (data.get("padding") or {}).items()},
        "mixture": mixture(data.get("mixture") or {}),
        "settings": settings(node),
        "metrics": [(words.title(key), words.plain(float(value))) for key, value in metrics.items()],
        "probes": [{"detail": "", **probe, "word": _passed(probe)} for probe in node.section("probes")],
        "alarms": [{"name": "", "detail": "", **alarm} for alarm in node.section("alarms")],
        "curves": curves(node.history()),
    }


def _passed(probe: dict[str, Any]) -> str:
    return "passed" if probe.get("passed") else "failed"


def mixture(sources: dict[str, Any]) -> list[dict[str, Any]]:
    """Asked against realised shares, `width` in percent of the bar; empty when there is only one source."""
    if len(sources) < 2:
        return []
    return [mixture_part(name, given) for name, given in sources.items()]


def mixture_part(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """One source as a manifest records it."""
    asked, realised = given.get("asked"), given.get("realised")
    return {
        "name": name,
        "asked": words.share(asked),
        "realised": words.share(realised),
        "asked_width": 100 * (words.finite(asked) or 0.0),
        "width": 100 * (words.finite(realised) or 0.0),
        **{key: words.count(given.get(key)) for key in ("tokens", "trained_tokens", "rows")},
    }


def settings(node: Node) -> list[tuple[str, str]]:
    """The adapter, then what the experiment says about training, as recorded in the artifact's payload."""
    config = (node.manifest.get("payload") or {}).get("config") or node.config
    apart = ("kind", "inputs", "data", "train", "runtime", "seed")
    own = {key: value for key, value in config.items() if key not in apart and value is not None}
    return [
        (LABELS.get(key, words.title(key)), words.plain(value))
        for key, value in {**own, **(config.get("train") or {})}.items()
    ]


@dataclass(frozen=True)
class Answers:
    """The kept samples of one model and its results, by suite."""

    model: str
    kept: dict[str, list[dict[str, Any]]]
    summary: dict[str, dict[str, Any]]

    def metric(self, suite: str) -> str:
        return str((self.summary.get(suite) or {}).get("metric"))


def samples(run: Run, found: Effect) -> list[dict[str, Any]]:
    """For each suite the items that were kept, as the start and as the last measured model answered them."""
    ends = [(name, run.nodes[f"eval_{name}"]) for name in dict.fromkeys([*found.models[:1], *found.models[-1:]])]
    read = [Answers(name, node.json("results/samples.json"), node.json("results/summary.json")) for name, node in ends]
    suites = list(dict.fromkeys(suite for answers in read for suite in answers.kept))
    shown = next((suite for suite in suites if read[0].metric(suite) != "perplexity"), None)
    return [{"title": words.title(s), "open": s == shown, "entries": _entries(s, read)} for s in suites]


def _entries(suite: str, read: list[Answers]) -> list[dict[str, Any]]:
    """Up to three items with the answer of each model that kept it."""
    items: dict[str, dict[str, Any]] = {}
    for answers in read:
        for row in answers.kept.get(suite, []):
            new: dict[str, Any] = {"prompt": row.get("prompt"), "reference": row.get("reference"), "answers": []}
            word = words.score_word(answers.metric(suite), row.get("score"))
            answer = {"model": answers.model, "text": row.get("answer"), "word": word}
            items.setdefault(str(row.get("item")), new)["answers"].append(answer)
    return list(items.values())[:3]


def costs(run: Run) -> dict[str, Any]:
    """Where the time of this run went: stages that worked, and the engine around them."""
    total, engine = words.finite(run.data.get("seconds")) or 0.0, words.finite(run.data.get("engine_seconds"))
    rows = [_cost(node, total) for node in run.nodes.values() if node.status in WORKED and node.seconds > 0]
    rows += [_spent("engine", engine, total)] if rows and engine is not None else []
    part = None if engine is None or not total else engine / total
    peaks = [
        words.finite(node.manifest.get("peak_bytes")) or 0.0 for node in run.nodes.values() if node.status in WORKED
    ]
    return {
        "total": words.duration(total), "engine": words.duration(engine), "share": words.share(part), "rows": rows,
        "peak": words.memory(max(peaks, default=0.0)),
    }  # fmt: skip


def _cost(node: Node, total: float) -> dict[str, Any]:
    timing = node.section("timing")
    worked = [timing.get("reference_seconds"), timing.get("train_seconds"), *(timing.get("suites") or {}).values()]
    load, *work = (words.finite(seconds) or 0.0 for seconds in (timing.get("load_seconds"), *worked))
    spent = _spent(node.name, node.seconds, total, load, sum(work))
    return {**spent, "peak": words.memory(node.manifest.get("peak_bytes"))}


def _spent(name: str, seconds: float, total: float, load: float = 0.0, work: float = 0.0) -> dict[str, Any]:
    """One line of the table; what neither loading nor work explains is the rest."""
    part = seconds / total if total else 0.0
    parts = {"load": load, "work": work, "other": max(0.0, seconds - load - work)}
    shown = {key: words.duration(value) if value else "–" for key, value in parts.items()}
    named = {"name": name, "seconds": words.duration(seconds), "share": words.share(part), "peak": "–"}
    return {**named, "width": 100 * part, **shown}


def lineage(run: Run) -> list[dict[str, Any]]:
    return [_ancestry(node) for node in run.nodes.values()]


def _ancestry(node: Node) -> dict[str, Any]:
    inputs = node.section("inputs")
    return {
        **box(node),
        "attempt": node.entry.get("attempt") or "",
        "digest": str(node.entry.get("digest") or "")[:12],
        "inputs": [(role, str(one.get("id", ""))) for role, one in inputs.items() if isinstance(one, dict)],
        "finished": words.moment(node.manifest.get("finished")),
        "seed": node.manifest.get("seed", ""),
        "resumed": node.manifest.get("resumed_from_step"),
    }


def environment(run: Run) -> list[tuple[str, str]]:
    """Code, packages and hardware of the newest artifact of the run; says so when artifacts differ."""
    envs = [node.section("env") for node in run.nodes.values() if node.section("env")]
    if not envs:
        return []
    env = envs[-1]
    code = f"{env.get('git') or 'not a git checkout'}{' with uncommitted changes' if env.get('dirty') else ''}"
    rows = [("Code", code), *((words.title(key), words.plain(env.get(key) or "–")) for key in RECORDED)]
    if len({json.dumps([one.get("git"), one.get("packages")], sort_keys=True) for one in envs}) > 1:
        rows.append(("Note", "Artifacts were built from more than one version of the code or of packages."))
    return rows
