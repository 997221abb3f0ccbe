"""All checks of one data set, for the stage that is to be trained on it; and what its rows do not cover."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from stages.data.contract import (
    answers,
    boilerplate,
    damage,
    duplicates,
    language,
    length,
    personal,
    preferences,
    secret,
    structure,
    template,
    tokens,
)
from stages.data.contract.config import OFF, ContractConfig, level_of
from stages.data.contract.view import ANSWERS, Found, Read, Scope, always
from stages.data.coverage.asked import asked_of
from stages.data.coverage.result import Coverage
from stages.data.coverage.survey import coverage
from stages.data.findings import LEVELS, Finding, Located, seen
from stages.data.misuse.generic import declared, generic_data_as_domain, unusable_sample
from stages.data.misuse.instructions import domain_text_as_instructions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EXAMINED = 200_000  # rows of a data set, the first ones, that are held in memory and examined

Check = Callable[[Scope], Found | None]  # named like the code of its finding
CHECKS: tuple[Check, ...] = (
    structure.no_rows,
    structure.wrong_form,
    structure.unreadable_row,
    structure.empty_turn,
    structure.role_order,
    tokens.no_trained_token,
    tokens.rows_cut,
    tokens.too_long,
    duplicates.exact_duplicates,
    duplicates.near_duplicates,
    duplicates.conflicting_answers,
    duplicates.answer_in_prompt,
    answers.mixed_format,
    answers.mixed_register,
    preferences.chosen_is_rejected,
    preferences.contradicting_preferences,
    preferences.length_bias,
    preferences.label_imbalance,
    boilerplate.boilerplate,
    damage.encoding_damage,
    language.language_mix,
    length.length_outliers,
    personal.personal_data,
    secret.secrets,
    template.template_tokens,
)
READS: tuple[tuple[Check, Read, Callable[[Scope], bool]], ...] = (  # what a check reads of each row, if it does
    (tokens.no_trained_token, tokens.trained, tokens.cuts),
    (tokens.too_long, tokens.lengths_of, tokens.leaves_out),
    (duplicates.exact_duplicates, duplicates.content_keys, always),
    (duplicates.near_duplicates, duplicates.text_keys, always),
    (duplicates.conflicting_answers, duplicates.exchange_keys, duplicates.learns_answers),
    (duplicates.answer_in_prompt, duplicates.echoes, duplicates.learns_answers),
    (answers.mixed_format, answers.formats_of, answers.learns_answers),
    (answers.mixed_register, answers.casual_marks_of, answers.learns_answers),
    (boilerplate.boilerplate, boilerplate.phrases_of, always),
    (damage.encoding_damage, damage.damaged, always),
    (language.language_mix, language.spoken_in, always),
    (personal.personal_data, personal.named_people, always),
    (secret.secrets, secret.hidden_values, always),
    (template.template_tokens, template.tokens_in, always),
)


def scope_of(
    rows: Sequence[Located],
    stage: str,
    config: ContractConfig,
    tokenizer: "PreTrainedTokenizerBase | None",
    max_length: int,
) -> Scope:
    """What is examined of the rows for `stage` (sft | domain | reward | dpo | kto | ppo): the first EXAMINED.

    Without a tokenizer nothing is said about tokens.
    """
    return Scope(rows[:EXAMINED], stage, config, tokenizer, max_length, len(rows))


def examine(scope: Scope, ahead: Sequence[Read] = ()) -> list[Finding]:
    """What the stage's contract finds, worst first. `ahead`: what is asked of the rows later, read together with it."""
    found = run_checks(CHECKS, scope, ahead)
    return levelled(chain(_not_examined(scope.all_rows), found), scope.config)


def misused(scope: Scope, sample: Sequence[Located] | None = None) -> list[Finding]:
    """Documents among instructions, general text among a domain's documents. `sample`: rows of the declared domain."""
    config = scope.config
    fit = [each.located for each in scope.items]
    found: list[Finding | None] = []
    if scope.stage == "sft":
        found = [domain_text_as_instructions(fit, config.instructions)]
    elif scope.stage == "domain":
        texts = [(located, text) for located in sample or () for text in _texts(located)]
        domain = declared([text for _, text in texts], config.generic)
        found = [generic_data_as_domain(fit, domain, config.generic)]
        if sample is not None and domain is None:
            found.append(unusable_sample(texts, config.generic))
    return levelled([each for each in found if each is not None], config)


def survey(scope: Scope, production_sample: Sequence[Located] | None = None) -> Coverage:
    """What the rows do not cover, against what a user declares as rows from production, and tables of what they do."""
    found = coverage(asked_of(scope), scope.stage, scope.config.coverage, production_sample)
    return replace(found, findings=levelled(found.findings, scope.config))


def run_checks(checks: Sequence[Check], scope: Scope, ahead: Sequence[Read] = ()) -> list[Finding]:
    """The findings of those checks that found something. A check whose level is `off` does not run."""
    asked = [check for check in checks if level_of(scope.config, check.__name__) != OFF]
    scope.read_ahead([*(read for check, read, does in READS if check in asked and does(scope)), *ahead])
    told = [(check.__name__, check(scope)) for check in asked]
    return [_finding(code, found, scope) for code, found in told if found is not None]


def _finding(code: str, found: Found, scope: Scope) -> Finding:
    """What a check found, with rows to look at."""
    return Finding(
        level_of(scope.config, code),
        code,
        len(found.marks),
        len(scope.rows) if found.of is None else found.of,
        found.message,
        found.remedy,
        seen((scope.rows[mark.index], mark.text) for mark in found.marks),
        dict(found.detail),
    )


def _texts(located: Located) -> list[str]:
    """What a row of a sample says, whatever its form."""
    row = located.row
    turns = [turn.get("content") or "" for turn in (*row.get("messages", ()), *row.get("prompt", ()))]
    return [*turns, *(row[name] for names in ANSWERS.values() for name in names if isinstance(row.get(name), str))]


def _not_examined(count: int) -> list[Finding]:
    if count <= EXAMINED:
        return []
    return [
        Finding(
            "info", "not_examined", count - EXAMINED, count,
            f"Only the first {EXAMINED} of {count} rows were examined.",
            "Nothing needs to be done; to have others examined, put them first.",
        )
    ]  # fmt: skip


def levelled(findings: Iterable[Finding], config: ContractConfig) -> list[Finding]:
    """The findings with the levels and the accepted reasons of the configuration, worst first; without those `off`."""
    found = [
        replace(each, level=level_of(config, each.code), accepted=config.accepted.get(each.code, ""))
        for each in findings
        if level_of(config, each.code) != OFF
    ]
    return sorted(found, key=lambda each: LEVELS.index(each.level))
