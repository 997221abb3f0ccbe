"""Coverage of one data set for one stage: every shortfall, and the tables behind it."""

from collections.abc import Sequence

from stages.data.contract.config import DEFAULT_LEVELS
from stages.data.contract.view import WRITES
from stages.data.coverage import asked as asking
from stages.data.coverage import diversity, edges, refusals, spread
from stages.data.coverage import production as producing
from stages.data.coverage.asked import Asked
from stages.data.coverage.config import CoverageConfig
from stages.data.coverage.reading import ENGLISH, UNKNOWN
from stages.data.coverage.result import Coverage, Shortfall, Table
from stages.data.coverage.subtopics import subtopics
from stages.data.findings import Finding, Located, seen

COMPARED = ("reward", "dpo", "kto", *WRITES)  # stages whose rows rest on prompts that may repeat

Part = tuple[list[Shortfall | None], list[Table]]


def coverage(
    asked: Sequence[Asked], stage: str, config: CoverageConfig, production: Sequence[Located] | None = None
) -> Coverage:
    """What rows hold and lack for `stage` (sft | domain | reward | dpo | kto | ppo), against `production` if given."""
    if not asked:
        return Coverage([], [])
    parts = [] if stage == "domain" else [_tasks(asked, stage, config), _refusals(asked, config), _edges(asked, config)]
    if stage in COMPARED:
        parts.append(_spread(asked, config))
    if production is not None:
        parts.append(_production(asked, asking.production(production), config))
    short = [each for found, _ in parts for each in found if each is not None]
    return Coverage([_finding(each) for each in short], [table for _, tables in parts for table in tables])


def _finding(short: Shortfall) -> Finding:
    return Finding(
        DEFAULT_LEVELS[short.code],
        short.code,
        short.count,
        short.of,
        short.message,
        short.remedy,
        seen(short.examples),
        dict(short.detail),
    )


def _english(asked: Sequence[Asked]) -> list[Asked]:
    """The prompts that rules made for English can read; none in a set of another language."""
    if edges.main_language(asked) not in (ENGLISH, UNKNOWN):
        return []
    return [each for each in asked if each.english]


def _tasks(asked: Sequence[Asked], stage: str, config: CoverageConfig) -> Part:
    """Preferences are compared within a prompt, so that their task types are told by `prompt_spread`."""
    wordings = diversity.wordings([each.text for each in asked])
    english = _english(asked)
    found = [diversity.wording_diversity(asked, wordings, config)]
    if stage in ("sft", *WRITES) and english:
        found.append(diversity.task_diversity(english, config))
    return found, diversity.tables(asked, english, wordings, config)


def _refusals(asked: Sequence[Asked], config: CoverageConfig) -> Part:
    found = refusals.stances(_english(asked))
    if not found:
        return [], []
    told = [refusals.refusal_share(found, config), refusals.look_alike_share(found, config)]
    return told, [refusals.table(found, config)]


def _edges(asked: Sequence[Asked], config: CoverageConfig) -> Part:
    main = edges.main_language(asked)
    found = [edges.kinds(each, main, config) for each in asked]
    return [edges.edge_cases(asked, found, config)], [edges.table(asked, found)]


def _spread(asked: Sequence[Asked], config: CoverageConfig) -> Part:
    found = spread.groups(asked)
    return [spread.prompt_spread(asked, found, config)], [spread.table(asked, found)]


def _production(asked: Sequence[Asked], sample: Sequence[Asked], config: CoverageConfig) -> Part:
    if not sample:
        return [], []
    found = [*producing.shifts(asked, sample), producing.topic_shift(asked, sample, config)]
    lacking = subtopics([each.text for each in asked], [each.text for each in sample])
    gap = producing.production_gap(found, lacking, asked, sample, config)
    return [gap], producing.tables(found, lacking, sample, config)
