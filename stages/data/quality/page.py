"""quality.html and quality.md of one data set: the same view through two templates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.report import rendering, words
from pipeline.report import sections as report
from pipeline.report.plots import LEFT, RIGHT, WIDTH
from stages.data.coverage.result import Table
from stages.data.findings import Finding
from stages.data.quality import sections
from stages.data.quality.plots import CEILING, FLOOR, HEIGHT
from stages.data.quality.samples import Sample

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Page:
    """What is known of a data set, as the stage `stage` (sft | domain | dpo | reward | ppo) is to be trained on it."""

    title: str
    stage: str
    counts: Mapping[str, Any] = field(default_factory=dict)  # quality.json of the prepared data set
    rejected: Sequence[Mapping[str, Any]] = ()  # the first rows of its rejected.jsonl
    findings: Sequence[Finding] = ()
    tables: Sequence[Table] = ()
    mixture: Mapping[str, Any] = field(default_factory=dict)  # part -> asked, realised, tokens ..., as in manifests
    lengths: Mapping[str, Sequence[int]] = field(default_factory=dict)  # 'tokens per prompt' -> numbers
    samples: Sequence[Sample] = ()
    max_length: int = 0  # tokens, of the stage; 0 = not known


def write(page: Page, folder: Path) -> None:
    """Write quality.html and quality.md into `folder`, which is made where it is missing."""
    seen = view(page)
    folder.mkdir(parents=True, exist_ok=True)
    for made, name in ((rendering.html(TEMPLATES), "quality.html"), (rendering.markdown(TEMPLATES), "quality.md")):
        rendering.replace(folder / name, made.get_template(f"{name}.j2").render(seen))


def view(page: Page) -> dict[str, Any]:
    """What both templates print."""
    return {
        "title": page.title,
        "stage": page.stage,
        "max_length": words.count(page.max_length) if page.max_length else "",
        "head": sections.headline(page.counts, page.findings),
        "sums": sections.sums(page.counts),
        "tiles": sections.tiles(page.counts),
        "reasons": sections.reasons(page.counts),
        "unused": report.counted(page.counts.get("unused_fields") or {}),
        "shares": sections.shares(page.counts),
        "levels": sections.levels(page.findings),
        "plots": sections.plots(page.lengths, page.max_length),
        "measured": sections.measured(page.counts),
        "tables": [sections.table(each) for each in page.tables],
        "mixture": sections.mixture(page.mixture),
        "samples": [sections.sample(each) for each in page.samples],
        "rejected": sections.rejected(page.rejected, page.counts),
        "box": {"width": WIDTH, "left": LEFT, "right": WIDTH - RIGHT, "height": HEIGHT, "top": CEILING, "floor": FLOOR},
    }
