"""Tables of docs/ablations.md, each from the cells of one multirun.

`python scripts/ablations.py STORE NAME=RUN:STAGE ...`: a cell's suites after STAGE, and their change against the
multirun's first cell on the same items with its 95 % interval. Prints Markdown; adds the table NAME to
benchmarks/ablations.json.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from pipeline.compare import cells_of_sweep, compare
from pipeline.store import Store

SUITES = (
    "domain_text", "general_text", "instructions", "refusal", "over_refusal", "category", "conditions", "preference",
)  # fmt: skip
OUT = Path(__file__).resolve().parent.parent / "benchmarks" / "ablations.json"


def table(store: Store, word: str) -> dict[str, Any]:
    """The comparison as JSON; its models are in the order of the multirun."""
    cells, without = cells_of_sweep(word, store)
    for name, reason in without.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    cells.sort(key=lambda model: str(model.run["run_id"]))
    return {"word": word, "date": time.strftime("%Y-%m-%d"), **compare(cells).json()}


def markdown(found: dict[str, Any]) -> str:
    lines = ["| | " + " | ".join(f"`{model['name']}`" for model in found["models"]) + " |"]
    lines.append("|---" * (len(found["models"]) + 1) + "|")
    for suite in found["suites"]:
        if suite["suite"] in SUITES:
            cells = (_cell(cell, first=i == 0) for i, cell in enumerate(suite["cells"]))
            better = "higher" if suite["higher_is_better"] else "lower"
            lines.append(f"| {suite['suite']}, {suite['metric']}, {better} is better | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(cell: dict[str, Any] | None, first: bool) -> str:
    if cell is None:
        return ""
    if first or not cell["change"]:
        return f"{cell['value']:.3g} ({cell['low']:.3g} to {cell['high']:.3g})"
    change = cell["change"]
    return f"{cell['value']:.3g}, {change['change']:+.3g} ({change['low']:+.3g} to {change['high']:+.3g})"


def main() -> None:
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    store = Store(Path(sys.argv[1]))
    kept = json.loads(OUT.read_text()) if OUT.is_file() else {}
    for word in sys.argv[2:]:
        name, _, run = word.partition("=")
        kept[name] = table(store, run)
        print(f"\n{name}\n\n{markdown(kept[name])}")
    OUT.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
