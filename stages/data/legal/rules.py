"""Questions about what licences allow, ask for and rule out, and how they combine."""

from collections.abc import Iterator
from itertools import combinations

from stages.data.legal.facts import GROUPS, Cell, Labels, category_rule, cells, labels, pair_side
from stages.data.legal.wording import Item, fill, listed, named, phrasings, pick, sentence, several, wording

TRAINED_WITH_GIST = [True, True, False, False, False]  # training asks with and without the licence's description


def labelled(side: str) -> list[Labels]:
    """The labelled licences of a side."""
    return [x for x in labels() if x.licence.side == side]


def called(facts: Labels, *key: str) -> str:
    """How people name the licence: in full or by its id."""
    return pick([named(facts.title), named(facts.title), facts.spdx], "called", facts.spdx, *key)


def sensible(rule: str, entry: dict[str, object], facts: Labels) -> bool:
    """Whether a plain No to the question would be true: not where a sister label says half of it."""
    if rule in facts.held:
        return True
    needed = entry.get("only_with")
    return not facts.held.intersection(entry.get("unless", ())) and (needed is None or needed in facts.held)


def yes_no(side: str, each: int = 3) -> Iterator[Item]:
    """Whether a licence carries one label: a permission, a condition or a limitation."""
    for facts in labelled(side):
        for rule, entry in wording()["rules"].items():
            if not sensible(rule, entry, facts):
                continue
            asked = several(phrasings(entry, side), each, "asked", facts.spdx, rule)
            for number, question in enumerate(asked):
                yield yes_no_item(side, facts, rule, question, number)


def yes_no_item(side: str, facts: Labels, rule: str, question: str, number: int) -> Item:
    """One question on one label. Measured ones come with the licence's description, so that they can be answered."""
    entry = wording()["rules"][rule]
    key = f"{facts.spdx}-{rule}-{number}"
    name = called(facts, key)
    with_gist = side != "train" or pick(TRAINED_WITH_GIST, "gist", key)
    text = fill(question, L=name)
    if with_gist:
        text = fill(pick(phrasings(wording()["gist"], side), "gist", key), L=name, gist=facts.gist, question=text)
    right = "yes" if rule in facts.held else "no"
    answers = {word: f"{word.capitalize()}. {fill(pick(entry['if_' + word], key), L=name)}" for word in ("yes", "no")}
    return Item(
        id=f"rule-{key}",
        task="rule",
        prompt=sentence(text),
        answer=answers[right],
        wrong=answers["no" if right == "yes" else "yes"],
        cluster=facts.licence.group,
        label=right.capitalize(),
        slices={"rule": rule, "group": rule.split(".")[0], "licence": facts.spdx},
    )


def majority() -> dict[str, bool]:
    """Rule -> whether most training licences carry it: what one can guess without reading."""
    known = labelled("train")
    return {rule: 2 * sum(rule in x.held for x in known) > len(known) for rule in wording()["rules"]}


def items_of(facts: Labels, group: str) -> list[str]:
    """What the licence says in one group, in the order of the wording file."""
    return [e["item"] for rule, e in wording()["rules"].items() if rule.startswith(group) and rule in facts.held]


def rules_list(side: str, each: int = 2) -> Iterator[Item]:
    """All permissions, conditions or limitations of a licence."""
    known = labelled(side)
    for facts in known:
        for group in GROUPS:
            task = wording()["rules_list"][group]
            others = [x for x in known if items_of(x, group) != items_of(facts, group)]
            for number, prompt in enumerate(several(phrasings(task, side), each, facts.spdx, group)):
                key = f"{facts.spdx}-{group}-{number}"
                name = called(facts, key)
                yield Item(
                    id=f"list-{key}",
                    task="list of rules",
                    cluster=facts.licence.group,
                    label=group,
                    prompt=sentence(fill(prompt, L=name)),
                    answer=list_answer(task, items_of(facts, group), name),
                    wrong=list_answer(task, items_of(pick(others, key), group), name) if others else "",
                )


def list_answer(task: dict[str, str], items: list[str], name: str) -> str:
    """The items in a sentence, or the sentence for none."""
    if not items:
        return fill(task["none"], L=name)
    return fill(task["some"], L=name, items=listed(items), Items=sentence(listed(items)).capitalize())


def distribute(side: str, each: int = 3) -> Iterator[Item]:
    """What to do when passing the work on."""
    task = wording()["distribute"]
    known = labelled(side)
    for facts in known:
        own = items_of(facts, "conditions")
        others = [items_of(x, "conditions") for x in known if items_of(x, "conditions") != own]
        for number, prompt in enumerate(several(phrasings(task, side), each, "distribute", facts.spdx)):
            key = f"{facts.spdx}-{number}"
            name = called(facts, key)
            yield Item(
                id=f"distribute-{key}",
                task="when distributing",
                cluster=facts.licence.group,
                label="",
                prompt=sentence(fill(prompt, L=name)),
                answer=list_answer(task, own, name),
                wrong=list_answer(task, pick(others, key), name) if others else "",
            )


def compare(side: str, count: int = 320) -> Iterator[Item]:
    """What sets two licences apart."""
    task = wording()["compare"]
    pairs = [(a, b) for a, b in combinations(labelled(side), 2) if a.held != b.held and trained_pair(side, a, b)]
    for a, b in several(pairs, count, "compare", side):
        key = f"{a.spdx}-{b.spdx}"
        first, second = called(a, key), called(b, key)
        yield Item(
            id=f"compare-{key}",
            task="compare",
            cluster=f"pair:{a.spdx}|{b.spdx}",
            label="",
            prompt=sentence(fill(pick(phrasings(task, side), "compare", key), A=first, B=second)),
            answer=difference(a, b, first, second),
            wrong=difference(b, a, first, second),
        )


def trained_pair(side: str, a: Labels, b: Labels) -> bool:
    """Whether the pair is of this side for compatibility too, so that no pair trains here and is measured there."""
    return pair_side(a.licence, b.licence) == side


VERBS = {"conditions": "asks you to", "permissions": "lets you", "limitations": "states that"}


def difference(a: Labels, b: Labels, first: str, second: str) -> str:
    """What only `first` (labels of a) says, and what only `second` (labels of b) says: a sentence for each."""
    parts = [f"{sentence(name)} {said}" for name, said in ((first, extra(a, b)), (second, extra(b, a))) if said]
    missing = second if extra(a, b) else first
    return ". ".join([f"{parts[0]}, which {missing} does not", *parts[1:]]) + "."


def extra(own: Labels, other: Labels) -> str:
    """The first thing, two at most, that one licence says and the other does not; empty where there is none."""
    for group, verb in VERBS.items():
        more = [x for x in items_of(own, group) if x not in items_of(other, group)]
        if more:
            return f"{verb} {listed(more[:2])}"
    return ""


def explain(side: str) -> Iterator[Item]:
    """What a label means in plain words. For training: the labels are the same on every side."""
    rules = wording()["rules"]
    for rule, entry in rules.items():
        others = [r for r in rules if r != rule and r.split(".")[0] == rule.split(".")[0]]
        for number, prompt in enumerate(wording()["explain"]["train"]):
            key = f"{rule}-{number}"
            yield Item(
                id=f"explain-{key}",
                task="explain a rule",
                cluster=f"explain:{rule}",
                label=rule,
                prompt=prompt.format(label=entry["name"]),
                answer=pick(entry["explain"], key),
                wrong=pick(rules[pick(others, "other", key)]["explain"], key),
            )


def recommend(side: str) -> Iterator[Item]:
    """Which licence fits what someone wants. For training: it is advice, not a label."""
    task = wording()["recommend"]
    known = {x.spdx: x for x in labelled("train")}
    for number, entry in enumerate(task["goals"]):
        for spdx, why in entry["fits"].items():
            for place, prompt in enumerate(task["train"] if spdx in known else []):
                key = f"{number}-{spdx}-{place}"
                wrong = pick([x for x in entry["not"] if x in known], key)
                yield Item(
                    id=f"recommend-{key}",
                    task="recommend",
                    cluster=f"recommend:{number}",
                    label=spdx,
                    prompt=prompt.format(goal=entry["goal"]),
                    answer=f"{sentence(named(known[spdx].title))}. {why}",
                    wrong=f"{sentence(named(known[wrong].title))}. {why}",
                )


def compat(side: str) -> Iterator[Item]:
    """Whether a work under one licence may contain code under another."""
    rule = category_rule()
    yield from (compat_item(side, cell, rule) for cell in cells() if cell.side == side)


def compat_item(side: str, cell: Cell, rule: dict[tuple[str, str], bool]) -> Item:
    """One direction of one pair."""
    task = wording()["compat"]
    ids = {"OUT": cell.outbound.spdx, "IN": cell.inbound.spdx}
    key = f"{ids['OUT']}-{ids['IN']}"
    kind = cell.inbound.category if cell.inbound.category != "Public Domain" else "Permissive"
    reasons = {word: sentence(fill(pick(task["if_" + word][kind], key), **ids)) for word in ("yes", "no")}
    answers = {word: f"{word.capitalize()}. {reasons[word]}" for word in reasons}
    right = "yes" if cell.yes else "no"
    guess = rule.get((cell.outbound.category, cell.inbound.category), True)
    unseen = sum(x.side != "train" for x in (cell.outbound, cell.inbound))
    return Item(
        id=f"compat-{key}",
        task="compatibility",
        cluster=cell.cluster,
        label=right.capitalize(),
        prompt=fill(pick(phrasings(task, side), "compat", key), **ids),
        answer=answers[right],
        wrong=answers["no" if cell.yes else "yes"],
        slices={
            "cell": f"{cell.outbound.category} <- {cell.inbound.category}",
            "unseen_licences": str(unseen),
            "hard": "yes" if cell.hard else "no",
            "category_rule": "right" if guess == cell.yes else "wrong",
        },
    )


MAKERS = (yes_no, rules_list, distribute, compare, compat, explain, recommend)
