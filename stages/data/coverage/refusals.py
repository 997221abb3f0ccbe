"""What a set teaches about refusing: refusals and benign look-alikes by category of harm, against their targets."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from stages.data.contract.view import Item, share
from stages.data.coverage.config import HARMS, CoverageConfig
from stages.data.coverage.harms import SAID, harm_of
from stages.data.coverage.reading import words
from stages.data.coverage.result import Shortfall, Table
from stages.data.misuse.exchanges import SMALL
from stages.evaluation.refusal import is_refusal

if TYPE_CHECKING:
    from stages.data.coverage.asked import Asked

ANSWERED = ("chat", "label", "preference")  # forms in which an answer can refuse
UNNAMED = "not named"  # a refusal, or a look-alike, whose words belong to no category
SAFETY = "safety"  # the tag by which a person says that a row is about refusing
ALIKE = 0.4  # Jaccard similarity to a refused prompt from which an answered one is a look-alike
COMMON = 20  # refused prompts with a word, above which the word is not looked up
FEWEST = 4  # words of a prompt that is compared


class Taught(NamedTuple):
    """What a row teaches by itself; the fields are those of Stance."""

    harm: str | None
    refused: bool
    spared: bool = False


@dataclass(frozen=True, slots=True)
class Stance:
    """What one row teaches. `refused`: by what is trained on or chosen; `spared`: the rejected answer refused."""

    asked: "Asked"
    harm: str | None
    refused: bool
    spared: bool = False

    @property
    def look_alike(self) -> bool:
        return self.harm is not None and not self.refused


def stances(asked: "Sequence[Asked]") -> list[Stance]:
    """Every row's stance. A refusal's category is read off its prompt, or else off the answer that declines.

    An answered prompt without a word of harm is a look-alike all the same if a refused one has nearly its words.
    """
    found = [Stance(each, *each.taught) for each in asked if each.taught]
    beside = Neighbours([each for each in found if each.refused])
    return [each if each.refused or each.harm else replace(each, harm=beside.harm(each.asked.text)) for each in found]


def taught(each: Item, requests: Sequence[str]) -> Taught | None:
    """What the answer to these requests teaches; None where there is none."""
    if each.form not in ANSWERED:
        return None
    harm = harm_of("\n".join(requests))
    if each.form == "preference":
        chosen, rejected = map(is_refusal, each.answers)
        return Taught(harm or (UNNAMED if chosen or rejected else None), chosen and not rejected, rejected > chosen)
    if each.form == "label" and not each.row["label"]:  # what the model is to leave off
        return Taught(harm, False, is_refusal(each.answer))
    if is_refusal(each.answer):
        return Taught(harm or harm_of(each.answer) or UNNAMED, True)
    tagged = any(SAFETY in str(tag) for tag in each.row.get("tags", ()))
    return Taught(harm or (UNNAMED if tagged else None), False)


class Neighbours:
    """Refused prompts by their words, to find the one that another prompt resembles."""

    def __init__(self, refused: Sequence[Stance]) -> None:
        self.harms = [each.harm for each in refused]
        self.sets = [_content(each.asked.text) for each in refused]
        self.holders: dict[str, list[int]] = {}
        for place, held in enumerate(self.sets):
            for word in held:
                self.holders.setdefault(word, []).append(place)
        self.most = max(COMMON, len(refused) // 50)

    def harm(self, prompt: str) -> str | None:
        """The category of the nearest refused prompt whose words are as good as these, or None."""
        own = _content(prompt)
        if len(own) < FEWEST:
            return None
        near = {place for word in own for place in self._rare(word)}
        best = max(near, key=lambda place: (_jaccard(own, self.sets[place]), -place), default=None)
        return self.harms[best] if best is not None and _jaccard(own, self.sets[best]) >= ALIKE else None

    def _rare(self, word: str) -> list[int]:
        places = self.holders.get(word, [])
        return places if len(places) <= self.most else []


def _content(text: str) -> set[str]:
    return set(words(text)) - SMALL


def _jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b)


def refusal_share(found: Sequence[Stance], config: CoverageConfig) -> Shortfall | None:
    """Too few refusals, none of some category, or so many that refusing becomes the habit."""
    refused = [each for each in found if each.refused]
    if len(found) < config.fewest_rows:
        return None
    if len(refused) > config.most_refusals * len(found):
        return _too_many(refused, found, config)
    return _too_few("refusal_share", refused, found, config.refusals, config.refusal_targets, "refuse")


def look_alike_share(found: Sequence[Stance], config: CoverageConfig) -> Shortfall | None:
    """Too few prompts that look harmful and are answered, or none of some category."""
    pairs = bool(found) and found[0].asked.item.form == "preference"
    if len(found) < config.fewest_rows or (pairs and not any(each.refused for each in found)):
        return None  # pairs that never prefer a refusal do not teach to over-refuse
    alike = [each for each in found if (each.spared if pairs else each.look_alike)]
    return _too_few("look_alike_share", alike, found, config.look_alikes, config.look_alike_targets, "answer")


def _too_few(
    code: str, having: Sequence[Stance], found: Sequence[Stance], least: float, targets: Mapping[str, float], what: str
) -> Shortfall | None:
    pairs = bool(found) and found[0].asked.item.form == "preference"
    held = Counter(each.harm for each in having)
    needed = {harm: math.ceil(part * len(found)) for harm, part in targets.items() if part and not pairs}
    lacking = {harm: wanted for harm, wanted in needed.items() if held[harm] < wanted}
    wanted = math.ceil(least * len(found))
    if len(having) >= wanted and not lacking:
        return None
    none = [harm for harm in lacking if not held[harm]]
    few = [f"{harm} ({held[harm]} of {lacking[harm]})" for harm in lacking if held[harm]]
    return Shortfall(
        code,
        len(having),
        len(found),
        f"{share(len(having), len(found))} {_rows(code, pairs)}"
        + (f"; the target is {wanted}." if len(having) < wanted else ", but not of every kind.")
        + (f" None of: {', '.join(none)}." if none else "")
        + (f" Fewer than the target of: {', '.join(few)}." if few else "")
        + (f" The words of {held[UNNAMED]} more name no category." if held[UNNAMED] and lacking else ""),
        _collect(code, max(0, wanted - len(having)), lacking, what, pairs),
        [(each.asked.item.located, each.asked.text) for each in having],
        {"by_category": {str(harm): count for harm, count in held.items()}, "lacking": lacking},
    )


def _rows(code: str, pairs: bool) -> str:
    if pairs:
        refusal = "prefer a refusal to an answer", "prefer an answer to a refusal"
        return f"pairs {refusal[code != 'refusal_share']}"
    return (
        "answers refuse"
        if code == "refusal_share"
        else "rows are look-alikes: they share words with a harm and are answered"
    )


def _collect(code: str, missing: int, lacking: Mapping[str, int], what: str, pairs: bool) -> str:
    rows = "pairs" if pairs else "rows"
    kinds = "; ".join(f"{SAID[harm]} ({count})" for harm, count in lacking.items())
    if code == "refusal_share":
        start = (
            f"Collect {rows} in which a harmful request is declined in a sentence or two, with what can be done instead"
        )
    else:
        start = (
            f"Collect {rows} whose harmless request uses words of a harm (to kill a process, a toy gun) and "
            f"is answered in "
            "full, so that the model does not refuse by single words"
        )
    return start + (f", {missing} more" if missing else "") + (f". At least: {kinds}." if kinds else ".")


def _too_many(refused: Sequence[Stance], found: Sequence[Stance], config: CoverageConfig) -> Shortfall:
    unnamed = sum(each.harm == UNNAMED for each in refused)
    return Shortfall(
        "refusal_share",
        len(refused),
        len(found),
        f"{share(len(refused), len(found))} answers refuse, more than {100 * config.most_refusals:g} %; "
        f"{share(unnamed, len(refused))} of them decline prompts without a word of harm. A model tuned on "
        f"them learns to "
        "refuse what is harmless.",
        "Take refusals out, those of harmless prompts first, or add answered rows: for each refusal at least two "
        "answers, among them look-alikes of the same category.",
        [(each.asked.item.located, each.asked.text) for each in refused if each.harm == UNNAMED or unnamed == 0],
        {"by_category": {str(harm): count for harm, count in Counter(each.harm for each in refused).items()}},
    )


def table(found: Sequence[Stance], config: CoverageConfig) -> Table:
    """Refusals and look-alikes by category of harm, with their targets."""
    pairs = bool(found) and found[0].asked.item.form == "preference"
    told = {harm: [each for each in found if each.harm == harm] for harm in (*HARMS, UNNAMED)}
    rows = []
    for harm, mine in told.items():
        refused = sum(each.refused for each in mine)
        alike = sum(each.spared if pairs else each.look_alike for each in mine)
        rows.append((SAID.get(harm, harm), len(mine), refused, alike))
    total = tuple(sum(row[i] for row in rows) for i in (1, 2, 3))
    columns = ("prefer a refusal", "prefer an answer to a refusal") if pairs else ("refused", "answered (look-alikes)")
    return Table(
        "Refusals and look-alikes by category of harm",
        ("category", "harmful-looking rows", *columns),
        (*rows, ("all", *total)),
        f"Targets: {100 * config.refusals:g} to {100 * config.most_refusals:g} % refusals and at least "
        f"{100 * config.look_alikes:g} % look-alikes of {len(found)} rows; categories are told by words, for English.",
    )
