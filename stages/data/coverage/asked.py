"""What a row asks: its last request, in a language that the rules can read or not."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stages.data.contract import structure
from stages.data.contract.identifier import identifier
from stages.data.contract.view import READS, Item, Scope, form_of, item
from stages.data.coverage import edges, refusals, tasks
from stages.data.coverage.reading import ENGLISH, UNKNOWN, language, starts
from stages.data.coverage.refusals import Taught
from stages.data.findings import Located


@dataclass(frozen=True, slots=True)
class Asked:
    """A row's last request, or its whole text where it has none, with what the modules of coverage ask of it."""

    item: Item
    requests: tuple[str, ...]  # everything that the user asked, the last request last
    language: str  # two letters, or UNKNOWN
    task: str  # a key of tasks.TASKS, or tasks.OTHER
    signs: tuple[str, ...]  # of edges.DETECTORS that show in an English text
    taught: Taught | None  # what an answer to it teaches about refusing

    @property
    def text(self) -> str:
        return _text(self.item, self.requests)

    @property
    def english(self) -> bool:
        """Readable for rules that were made for English; a text too short to tell counts as such."""
        return self.language in (ENGLISH, UNKNOWN)


Told = tuple[str, str, tuple[str, ...], Taught | None]  # all of Asked but what the item says itself


def asked(rows: Sequence[Located], stage: str) -> list[Asked]:
    """The rows that fit the stage."""
    fit = [i for i, located in enumerate(rows) if structure.problem(located.row, stage) is None]
    return [_asked(item(i, rows[i])) for i in fit]


def asked_of(scope: Scope) -> list[Asked]:
    """The rows of a scope that fit its stage."""
    told = zip(scope.items, scope.each(asked_in), strict=True)
    return [Asked(each, _requests(each), *of_each) for each, of_each in told]


def production(rows: Iterable[Located]) -> list[Asked]:
    """Rows of any form that can be read: a sample of production may be prompts, texts or conversations."""
    kept = []
    for i, located in enumerate(rows):
        form = form_of(located.row)
        stage = next((stage for stage, forms in READS.items() if form in forms), None)
        if stage and structure.problem(located.row, stage) is None:
            kept.append(_asked(item(i, located)))
    return kept


def asked_in(items: Sequence[Item], scope: Scope) -> list[Told]:
    """What coverage asks of each item."""
    identifier().read(starts(_text(each, _requests(each)) for each in items))
    return [_told(each) for each in items]


def _asked(each: Item) -> Asked:
    return Asked(each, _requests(each), *_told(each))


def _told(each: Item) -> Told:
    requests = _requests(each)
    text = _text(each, requests)
    spoken = language(text)
    signs = edges.signs(text) if spoken in (ENGLISH, UNKNOWN) else ()
    return spoken, tasks.task_of(text), signs, refusals.taught(each, requests)


def _requests(each: Item) -> tuple[str, ...]:
    turns = each.row.get("messages") or each.row.get("prompt") or []
    return tuple(turn.get("content") or "" for turn in turns if turn["role"] == "user")


def _text(each: Item, requests: Sequence[str]) -> str:
    return requests[-1] if requests else each.row.get("text", "")
