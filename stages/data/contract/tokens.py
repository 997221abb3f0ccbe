"""What the length of the stage does to its rows: left without a trained token, cut, or left out."""

from collections.abc import Sequence

from stages.data.contract.view import WRITES, Found, Item, Mark, Scope, share
from stages.models.chat import IGNORE, chat_examples, encode_all, render, text_example

UNCUT = 1 << 62  # tokens
LONGER = "Set a larger max_length, or shorten what comes before the answer in these rows."


def cuts(scope: Scope) -> bool:
    """Whether the stage cuts rows, and there is a tokenizer to tell where."""
    return scope.tokenizer is not None and scope.stage in ("sft", "domain")


def trained(items: Sequence[Item], scope: Scope) -> list[tuple[int, int]]:
    """(trained tokens of the whole row, those left at `max_length`) of each item.

    As the trainers of `stages.sft` and `stages.domain` see the rows. A document is split rather than cut.
    """
    if scope.stage == "domain":
        documents = (text_example(scope.tokenizer, each.row["text"], scope.max_length) for each in items)
        return [(left, left) for left in (sum(piece.trained for piece in pieces) for pieces in documents)]
    found = []
    for whole in chat_examples(scope.tokenizer, (each.row["messages"] for each in items), UNCUT):
        beyond = whole.labels[scope.max_length :]
        found.append((whole.trained, whole.trained - len(beyond) + beyond.count(IGNORE)))
    return found


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
    if not leaves_out(scope):
        return None
    lengths = {each.index: length for each, length in zip(scope.items, scope.each(lengths_of), strict=True)}
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


def leaves_out(scope: Scope) -> bool:
    """Whether the stage leaves out what is too long, and there is a tokenizer to tell."""
    return scope.tokenizer is not None and scope.stage not in ("sft", "domain")


def lengths_of(items: Sequence[Item], scope: Scope) -> list[int]:
    """Tokens of each item's prompt with its longest answer, or of a prompt with the first token of what comes."""
    prompts = [render(scope.tokenizer, each.row["prompt"], generation_prompt=True) for each in items]
    asked = map(len, encode_all(scope.tokenizer, prompts))
    if scope.stage in WRITES:
        return [length + 1 for length in asked]
    said = map(len, encode_all(scope.tokenizer, [answer for each in items for answer in each.answers]))
    return [length + max(next(said) for _ in each.answers) + 1 for length, each in zip(asked, items, strict=True)]
