"""How many different prompts a set of preferences rests on."""

from collections import Counter
from collections.abc import Sequence

from stages.data.contract.view import plain, share
from stages.data.coverage.asked import Asked
from stages.data.coverage.config import CoverageConfig
from stages.data.coverage.result import Shortfall, Table, percent
from stages.data.coverage.tasks import TASKS
from stages.data.similar import Groups, pairs, shingles

ALIKE = 0.8  # Jaccard similarity of 5-word shingles from which two prompts are one


def groups(asked: Sequence[Asked]) -> list[int]:
    """For every row the number of its prompt; prompts that are nearly the same, all turns counted, share one."""
    texts = [plain(each.item.prompt) for each in asked]
    unique = list(dict.fromkeys(texts))
    joined = Groups(len(unique))
    for first, second in pairs([shingles(text) for text in unique], ALIKE):
        joined.join(first, second)
    number = {text: joined.find(place) for place, text in enumerate(unique)}
    return [number[text] for text in texts]


def prompt_spread(asked: Sequence[Asked], found: Sequence[int], config: CoverageConfig) -> Shortfall | None:
    """Few prompts for many rows, or one prompt with too many of them; `found`: the prompt of every row."""
    if len(asked) < config.fewest_rows:
        return None
    counts = Counter(found)
    biggest, most = counts.most_common(1)[0]
    few = len(counts) < max(config.fewest_prompts, config.distinct_prompts * len(asked))
    heavy = most > max(config.largest_prompt * len(asked), 2)
    if not (few or heavy):
        return None
    missing = [task for task in TASKS if task not in {each.task for each in asked}]
    wanted = max(0, max(config.fewest_prompts, round(config.distinct_prompts * len(asked))) - len(counts))
    return Shortfall(
        "prompt_spread",
        most if heavy else len(asked) - len(counts),
        len(asked),
        f"{len(asked)} rows rest on {len(counts)} different prompts; the largest, with its near-duplicates, has "
        f"{share(most, len(asked))}. What is learnt from so few prompts does not carry over to others.",
        (f"Collect answers to at least {wanted} more prompts" if wanted else "Spread the rows over more prompts")
        + (f", of types that are missing: {', '.join(missing)}" if missing else "")
        + f"; a prompt should have at most {max(2, int(config.largest_prompt * len(asked)))} rows.",
        [(each.item.located, each.item.prompt) for each, number in zip(asked, found, strict=True) if number == biggest],
        {"prompts": len(counts), "largest": most, "tasks": dict(Counter(each.task for each in asked))},
    )


def table(asked: Sequence[Asked], found: Sequence[int]) -> Table:
    """Prompts, rows for each, and the largest group."""
    counts = Counter(found)
    sizes = counts.most_common()
    top = sum(count for _, count in sizes[:10])
    return Table(
        "Spread of prompts",
        ("measure", "value"),
        (
            ("rows", len(asked)),
            ("different prompts", len(counts)),
            ("rows of the largest prompt", f"{sizes[0][1]} ({percent(sizes[0][1], len(asked))})" if sizes else "-"),
            ("share of the ten largest prompts", percent(top, len(asked))),
            ("task types of prompts", len({each.task for each in asked})),
        ),
        f"Prompts with {100 * ALIKE:g} % of their five-word pieces in common count as one.",
    )
