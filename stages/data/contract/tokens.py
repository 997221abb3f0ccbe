"""What the length of the stage does to its rows: left without a trained token, cut, or left out."""

from typing import TYPE_CHECKING

from stages.data.contract.view import Found, Item, Mark, Scope, share
from stages.models.chat import Example, answer_ids, chat_example, prompt_ids, text_example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNCUT = 1 << 62  # tokens
LONGER = "Set a larger max_length, or shorten what comes before the answer in these rows."


def trained(scope: Scope) -> list[tuple[int, int]]:
    """(trained tokens of the whole row, those left at `max_length`) of each item; empty where there is nothing to cut.

    As the trainers of `stages.sft` and `stages.domain` see the rows. A document is split rather than cut.
    """
    if scope.tokenizer is None or scope.stage not in ("sft", "domain"):
        return []
    return [_trained(each, scope.tokenizer, scope.max_length) for each in scope.items]


def _trained(each: Item, tokenizer: "PreTrainedTokenizerBase", max_length: int) -> tuple[int, int]:
    if each.form == "text":
        left = sum(example.trained for example in text_example(tokenizer, each.row["text"], max_length))
        return left, left
    whole = chat_example(tokenizer, each.row["messages"], UNCUT)
    left = Example(whole.ids[:max_length], whole.labels[:max_length])
    return whole.trained, left.trained


def no_trained_token(scope: Scope) -> Found | None:
    """Rows of which nothing is left to train: their first answer begins beyond `max_length`."""
    marks = [
        Mark(each.index, each.answer) for each, (_, left) in zip(scope.items, scope.trained, strict=False) if not left
    ]
    if not marks:
        return None
    return Found(
        marks,
        f"{share(len(marks), len(scope.items))} rows have no trained token within max_length={scope.max_length}.",
        LONGER,
        of=len(scope.items),
    )


def rows_cut(scope: Scope) -> Found | None:
    """Rows that lose the end of their answers at `max_length`, though not all of them."""
    both = zip(scope.items, scope.trained, strict=False)
    lost = {each.index: (whole, left) for each, (whole, left) in both if 0 < left < whole}
    if not lost:
        return None
    tokens, gone = sum(whole for whole, _ in scope.trained), sum(whole - left for whole, left in lost.values())
    return Found(
        [Mark(i, f"{left} of {whole} trained tokens are left") for i, (whole, left) in lost.items()],
        f"{share(len(lost), len(scope.items))} rows are cut at max_length={scope.max_length}: "
        f"{share(gone, tokens)} trained tokens are lost, the end of their last answer among them.",
        f"{LONGER[:-1]}, so that the model learns where an answer ends.",
        of=len(scope.items),
        detail={"tokens_lost": gone, "tokens": tokens},
    )


def too_long(scope: Scope) -> Found | None:
    """Prompts with answers that are longer than `max_length`: such rows are left out, not cut.

    Of several answers the longest counts, as in `stages.dpo`; a prompt alone must leave room for a token of the answer.
    """
    if scope.tokenizer is None or scope.stage in ("sft", "domain"):
        return None
    lengths = {each.index: _length(each, scope.tokenizer, scope.stage) for each in scope.items}
    long = {i: length for i, length in lengths.items() if length > scope.max_length}
    if not long:
        return None
    return Found(
        [Mark(i, f"{length} tokens") for i, length in long.items()],
        f"{share(len(long), len(scope.items))} rows are longer than max_length={scope.max_length} and are left out; "
        f"the longest has {max(long.values())} tokens.",
        "Set a larger max_length, or shorten these rows.",
        of=len(scope.items),
    )


def _length(each: Item, tokenizer: "PreTrainedTokenizerBase", stage: str) -> int:
    prompt = len(prompt_ids(tokenizer, each.row["prompt"]))
    if stage == "ppo":
        return prompt + 1
    return prompt + max(len(answer_ids(tokenizer, answer)) for answer in each.answers)
