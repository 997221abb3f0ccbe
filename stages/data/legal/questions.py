"""From items to data sets: which items train, which are pairs, which are measured, and how they are balanced."""

import random
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from stages.data.legal import rules, tasks
from stages.data.legal.balance import answers_in_turn, balanced, even
from stages.data.legal.licences import CATEGORIES, on
from stages.data.legal.talk import authored
from stages.data.legal.texts import round_robin
from stages.data.legal.wording import Item
from stages.data.split import interleave, unit

PAIR_SHARE = 0.3  # of the training items go to preference pairs, and are not in the chats
# At most so many of each task, so that none drowns the others.
CHAT_COUNTS = {
    "category_excerpt": 650,
    "category_name": 300,
    "identify": 220,
    "yes_no": 420,
    "rules_list": 160,
    "distribute": 80,
    "compare": 220,
    "compat": 560,
    "explain": 100,
    "recommend": 110,
    "spdx_expand": 260,
    "spdx_id": 200,
    "expression": 160,
    "header": 120,
    "notice": 420,
}
PAIR_COUNTS = {
    "category_excerpt": 240,
    "category_name": 80,
    "yes_no": 160,
    "rules_list": 40,
    "distribute": 24,
    "compare": 80,
    "compat": 200,
    "explain": 30,
    "recommend": 30,
    "spdx_expand": 120,
    "spdx_id": 80,
    "expression": 80,
    "header": 50,
    "notice": 120,
    "identify": 60,
}
MEASURED_PAIRS = {
    "category_excerpt": 60,
    "yes_no": 60,
    "compat": 40,
    "spdx_expand": 40,
    "spdx_id": 30,
    "expression": 40,
    "header": 24,
}

ASKED = ("category_excerpt", "yes_no")  # tasks that a suite measures and training can teach: categories and rules
YES_NO = ("yes_no", "compat")  # tasks answered by Yes or No

MAKERS = {maker.__name__: maker for maker in (*tasks.MAKERS, *rules.MAKERS)}


@lru_cache
def items(task: str, side: str) -> tuple[Item, ...]:
    """All items of one task for a side."""
    return tuple(MAKERS[task](side))


def for_pairs(item: Item) -> bool:
    """Whether a training item becomes a preference pair instead of a chat."""
    return unit("pairs", item.prompt) < PAIR_SHARE


def training(task: str, pairs: bool, seed: int) -> list[Item]:
    """The training items of a task, balanced: those for pairs, or those for chats."""
    return balanced((x for x in items(task, "train") if for_pairs(x) == pairs), None, seed)


def scaled(counts: dict[str, int], total: int) -> dict[str, int]:
    """The counts in the same proportions, adding up to about `total`; 0 keeps them as they are."""
    if not total:
        return counts
    share = total / sum(counts.values())
    return {task: max(1, round(share * count)) for task, count in counts.items()}


def chat(item: Item) -> dict[str, Any]:
    """The item as a chat row."""
    turns = [{"role": "user", "content": item.prompt}, {"role": "assistant", "content": item.answer}]
    return {"id": item.id, "messages": turns, "task": item.task, "tags": ["legal"], "cluster": item.cluster}


def preference(item: Item) -> dict[str, Any]:
    """The item as a preference row: label-true against label-false."""
    return {
        "id": item.id,
        "prompt": item.prompt,
        "chosen": item.answer,
        "rejected": item.wrong,
        "task": item.task,
        "tags": ["legal"],
        "cluster": item.cluster,
    }


def choice(item: Item, choices: tuple[str, ...], baselines: dict[str, int]) -> dict[str, Any]:
    """The item as a forced choice between bare answers."""
    return {
        "id": item.id,
        "prompt": item.prompt,
        "choices": list(choices),
        "answer": choices.index(item.label),
        "task": item.task,
        "cluster": item.cluster,
        "tags": ["legal"],
        "slices": item.slices,
        "baselines": baselines,
    }


def legal_chats(total: int, asked: float, seed: int) -> list[dict[str, Any]]:
    """Legal questions and answers, the tasks interleaved. `asked`: share of `total` for the tasks that are measured."""
    counts = weighted(CHAT_COUNTS, total, asked)
    found = {task: training(task, False, seed) for task in counts}
    parts = [(answers_in_turn(part) if task in YES_NO else part)[: counts[task]] for task, part in found.items()]
    return interleave([[chat(x) for x in part] for part in parts], seed)


def weighted(counts: dict[str, int], total: int, asked: float) -> dict[str, int]:
    """Counts that add up to about `total` (0: as they are), a share of `asked` divided evenly among `ASKED`.

    No task takes more than its count; with `asked` 0 all keep their proportions.
    """
    if not total or not asked:
        return scaled(counts, total)
    first = {task: min(counts[task], round(asked * total / len(ASKED))) for task in ASKED}
    rest = {task: count for task, count in counts.items() if task not in ASKED}
    return {**scaled(rest, max(1, total - sum(first.values()))), **first}


def legal_pairs(total: int, seed: int) -> list[dict[str, Any]]:
    """Label-true against label-false answers, the tasks interleaved."""
    counts = scaled(PAIR_COUNTS, total)
    return interleave(as_pairs({task: training(task, True, seed) for task in counts}, counts), seed)


def as_pairs(found: dict[str, list[Item]], counts: dict[str, int]) -> list[list[dict[str, Any]]]:
    """`counts` of the items of each task as preference rows, so that neither length nor Yes tells the right answer."""
    return [
        [preference(x) for x in even([x for x in part if x.wrong], counts[task], task in YES_NO, number % 2 == 0)]
        for number, (task, part) in enumerate(found.items())
    ]


def authored_chats(name: str, tag: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Authored prompts and answers; `count` of them at most, 0 = all."""
    return [_authored_chat(row, tag) for row in in_turn(authored(name), count, seed)]


def in_turn(rows: list[dict[str, Any]], count: int, seed: int) -> list[dict[str, Any]]:
    """`count` of the rows, 0 = all; groups in seeded order, so that a harmful prompt keeps its look-alike."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row.get("pair", row["id"]), []).append(row)
    order = list(groups.values())
    random.Random(seed).shuffle(order)
    return [row for group in order for row in group][: count or None]


def _authored_chat(row: dict[str, Any], tag: str) -> dict[str, Any]:
    turns = row.get("messages") or [
        {"role": "user", "content": row["prompt"]},
        {"role": "assistant", "content": row["response"]},
    ]
    return {
        "id": row["id"],
        "messages": turns,
        "task": _task(row),
        "tags": [tag],
        "cluster": row.get("pair", row["id"]),
    }


def _task(row: dict[str, Any]) -> str:
    return row.get("task") or ("refusal" if row["harmful"] else "benign look-alike")


def checked(name: str, part: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Authored prompts with a rule for the answer, which of a safety prompt is whether it declines; 0 = all."""
    return [
        {
            "id": row["id"],
            "prompt": row["messages"][:-1] if "messages" in row else row["prompt"],
            "check": row.get("check") or {"type": "refusal", "wanted": row["harmful"]},
            "tags": [part],
            "task": _task(row),
            "cluster": row.get("pair") or row.get("group") or row["id"],
            "slices": {"part": part, "task": _task(row)},
        }
        for row in in_turn(authored(name), count, seed)
    ]


def authored_pairs(name: str, tag: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Authored preference pairs; `count` of them at most, 0 = all."""
    return [
        {
            "id": row["id"],
            "prompt": row["prompt"],
            "chosen": row["chosen"],
            "rejected": row["rejected"],
            "tags": [tag],
            "task": _task(row),
            "cluster": row.get("pair", row["id"]),
            **_seen(row),
        }
        for row in in_turn(authored(name), count, seed)
    ]


def _seen(row: dict[str, Any]) -> dict[str, Any]:
    """Slices of a measured safety pair: which side it is of, and whether training holds its category."""
    if "seen_category" not in row:
        return {}
    return {"slices": {"task": _task(row), "seen_category": "yes" if row["seen_category"] else "no"}}


def measured(side: str, task: str, count: int, seed: int) -> list[Item]:
    """Held-out items of a task with every answer equally often, as far as there are any."""
    return balanced(items(task, side), count or None, seed, equal=True)


def category_choices(side: str, per_class: int, seed: int) -> Iterator[dict[str, Any]]:
    """Forced choice of a category. The baseline always says what is most frequent among training texts."""
    frequent = _most_frequent([x.category for x in on("train")])
    classes = [[x for x in items("category_excerpt", side) if x.label == name] for name in CATEGORIES]
    rows = [
        [choice(x, CATEGORIES, {"majority": int(x.label == frequent)}) for x in by_group(part, seed)[:per_class]]
        for part in classes
    ]
    yield from interleave([part for part in rows if part], seed)


def by_group(found: list[Item], seed: int) -> list[Item]:
    """The items with the clusters in turn, so that a limit keeps as many clusters as it can."""
    parts: dict[str, list[Item]] = {}
    for item in found:
        parts.setdefault(item.cluster, []).append(item)
    return list(round_robin(list(parts.values()), seed))


def _most_frequent(names: list[str]) -> str:
    return max(sorted(set(names)), key=names.count)


def condition_choices(side: str, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Forced choice of Yes or No on a label. The baseline knows each label's majority among training licences."""
    usual = rules.majority()
    for item in measured(side, "yes_no", count, seed):
        right = usual[item.slices["rule"]] == (item.label == "Yes")
        yield choice(item, ("Yes", "No"), {"majority": int(right)})


def compat_choices(side: str, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Forced choice of Yes or No on hard cells, with two baselines: always Yes, and the rule on categories."""
    hard = [x for x in items("compat", side) if x.slices["hard"] == "yes"]
    for item in balanced(hard, count or None, seed, equal=True):
        yield choice(
            item,
            ("Yes", "No"),
            {
                "always_yes": int(item.label == "Yes"),
                "category_rule": int(item.slices["category_rule"] == "right"),
            },
        )


def measured_pairs(side: str, total: int, seed: int) -> list[list[dict[str, Any]]]:
    """Label-true against label-false answers about licences that no training set touches, by task."""
    counts = scaled(MEASURED_PAIRS, total)
    found = {task: balanced(items(task, side), None, seed, equal=task in YES_NO) for task in counts}
    return as_pairs(found, counts)
