"""All checks of the contract, one after another, over the rows that a stage is to be trained on."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from stages.data.contract import structure
from stages.data.contract.config import OFF, ContractConfig, level_of
from stages.data.contract.view import Found, Scope
from stages.data.findings import LEVELS, Finding, Located, seen

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Check = Callable[[Scope], Found | None]  # named like the code of its finding
CHECKS: tuple[Check, ...] = (
    structure.wrong_form,
    structure.unreadable_row,
    structure.empty_turn,
    structure.role_order,
)


def examine(
    rows: Sequence[Located],
    stage: str,
    config: ContractConfig,
    tokenizer: "PreTrainedTokenizerBase | None",
    max_length: int,
) -> list[Finding]:
    """What the contract of `stage` (sft | domain | reward | dpo | ppo) finds in the rows, worst first.

    Without a tokenizer nothing is said about tokens. A check whose level is `off` does not run.
    """
    scope = Scope(rows, stage, config, tokenizer, max_length)
    return run_checks(CHECKS, scope)


def run_checks(checks: Sequence[Check], scope: Scope) -> list[Finding]:
    """The findings of those checks that found something."""
    asked = [check for check in checks if level_of(scope.config, check.__name__) != OFF]
    told = [(check.__name__, check(scope)) for check in asked]
    findings = [finding(code, found, scope) for code, found in told if found is not None]
    return sorted(findings, key=lambda each: LEVELS.index(each.level))


def finding(code: str, found: Found, scope: Scope) -> Finding:
    """What a check found, with its level and with rows to look at."""
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
