"""Stages that learn from rewards: curves, the reward against gold over KL, alarms, time, and what was said when."""

from collections.abc import Iterable
from typing import Any

from pipeline.report import words
from pipeline.report.collect import Node, Run
from pipeline.report.plots import Curve, Pair, curve, pair
from pipeline.report.sections import box

NAMES = {  # what a history may hold -> its caption, in the order of the page
    "reward": "Reward, as trained on",
    "gold": "Gold score",
    "reward/": "Term",
    "gold/": "Gold term",
    "multiplier/": "Multiplier of",
    "kl": "KL from the input policy, nats an answer",
    "kl_coef": "KL coefficient",
    "entropy": "Entropy, nats a token",
    "response_length": "Length of answers, tokens",
    "eos_share": "Answers that end by themselves, share",
    "repetition": "Repeated n-grams, share",
    "reward_spread": "Spread of rewards, standard deviation",
    "clip_share": "Clipped ratios, share",
    "explained_variance": "Explained variance of the value function",
    "value_loss": "Value loss",
    "policy_loss": "Policy loss",
}
PARTS = ("rollout", "scoring", "update")  # of a step; the manifest's `timing` has the seconds of each
PROMPTS, ANSWERS = 3, 3  # shown
TURNED = "over_optimised"  # the alarm that says where gold turned


def reinforcement(run: Run) -> list[dict[str, Any]]:
    """Everything about each stage whose history has rewards."""
    found = [(node, [row for row in node.history() if "reward" in row]) for node in run.trained]
    return [_learned(node, history) for node, history in found if history]


def _learned(node: Node, history: list[dict[str, Any]]) -> dict[str, Any]:
    config = (node.manifest.get("payload") or {}).get("config") or node.config
    target = words.finite((config.get("train") or {}).get("kl_target")) or None
    drawn, constant = series(history, target)
    alarms = [{"name": "", "detail": "", **alarm} for alarm in node.section("alarms")]
    return {
        **box(node),
        "updates": words.count(len(history)),
        "alarms": alarms,
        "curves": drawn,
        "constant": constant,
        "target": None if target is None else words.plain(target),
        "pair": proxy_and_gold(history, alarms),
        "times": times(node),
        "samples": samples(node),
    }


def series(history: list[dict[str, Any]], target: float | None) -> tuple[list[Curve], list[tuple[str, str]]]:
    """A curve for each known series, and (caption, value) of those that never change. None is drawn twice."""
    drawn, constant, seen = [], [], set()
    for key, caption in _known(history):
        pairs = [(at, words.finite(row.get(key))) for at, row in enumerate(history, 1)]
        points = [(float(at), value) for at, value in pairs if value is not None]
        values = tuple(value for _, value in points)
        if values in seen or not values:
            continue
        seen.add(values)
        if len(set(values)) == 1:
            constant.append((caption, words.plain(values[0])))
        else:
            drawn.append(curve(caption, points, target if key == "kl" else None))
    return drawn, constant


def _known(history: list[dict[str, Any]]) -> Iterable[tuple[str, str]]:
    keys = list(dict.fromkeys(key for row in history for key in row))
    for name, caption in NAMES.items():
        if name.endswith("/"):
            yield from ((key, f"{caption} {key.removeprefix(name)}") for key in keys if key.startswith(name))
        elif name in keys:
            yield name, caption


def proxy_and_gold(history: list[dict[str, Any]], alarms: list[dict[str, Any]]) -> Pair | None:
    """Reward and gold score over KL, in the order of the updates; None without a gold score."""
    keys = ("kl", "reward", "gold")
    rows = [row for row in history if all(words.finite(row.get(key)) is not None for key in keys)]
    kl, reward, gold = ([float(row[key]) for row in rows] for key in keys)
    turn = next((words.finite(alarm.get("kl")) for alarm in alarms if alarm["name"] == TURNED), None)
    return pair(kl, reward, gold, turn) if len(set(kl)) > 1 else None


def times(node: Node) -> dict[str, Any] | None:
    """Seconds and share of sampling, scoring and training; None where the stage recorded none."""
    timing = node.section("timing")
    seconds = {part: words.finite(timing.get(f"{part}_seconds")) or 0.0 for part in PARTS}
    total = sum(seconds.values())
    if not total:
        return None
    rate = words.finite(node.section("metrics").get("rollout_tokens_per_second"))
    rows = [
        {
            "name": part,
            "seconds": words.duration(spent),
            "share": words.share(spent / total),
            "width": 100 * spent / total,
        }
        for part, spent in seconds.items()
    ]
    return {"rows": rows, "rate": "" if rate is None else f"{words.count(rate)} tokens a second"}


def samples(node: Node) -> list[dict[str, Any]]:
    """A few prompts, those answered most often first, each with its answers from the first update to the last."""
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for row in node.lines("samples.jsonl"):
        by_prompt.setdefault(str(row.get("prompt")), []).append(row)
    ranked = sorted(by_prompt.items(), key=lambda item: -len({row.get("update") for row in item[1]}))
    again = [item for item in ranked if len(item[1]) > 1]
    chosen = again[:PROMPTS] or _spread(ranked, PROMPTS)
    return [{"prompt": prompt, "answers": [_said(row) for row in _spread(rows, ANSWERS)]} for prompt, rows in chosen]


def _spread(rows: list[Any], count: int) -> list[Any]:
    """Up to `count` of the rows, from the first to the last, evenly."""
    if len(rows) <= count:
        return rows
    return [rows[round(i * (len(rows) - 1) / (count - 1))] for i in range(count)]


def _said(row: dict[str, Any]) -> dict[str, str]:
    number = words.finite(row.get("update"))
    reward = words.finite(row.get("reward"))
    return {
        "at": "–" if number is None else words.count(number + 1),
        "text": str(row.get("answer") or ""),
        "reward": "–" if reward is None else words.plain(reward),
    }
