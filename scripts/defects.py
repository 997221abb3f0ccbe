"""Precision and recall of every finding on planted defects: the whole table, to benchmarks/defects.json.

    python scripts/defects.py            # measures
    python scripts/defects.py --report   # what was measured, as Markdown

How defects are planted stands in tests/stages/data/contract/planting.py; nothing but the project's own rows is used.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "benchmarks" / "defects.json"
sys.path.insert(0, str(ROOT / "tests" / "stages" / "data" / "contract"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", action="store_true", help="print the table, measure nothing")
    if parser.parse_args().report:
        return print(report(json.loads(TARGET.read_text())))
    import planting
    from bench_machine import hardware

    from pipeline.schema import ModelConfig
    from stages.models.sources import load

    _, tokenizer = load(ModelConfig(source="toy"))
    began = time.monotonic()
    rows = list(planting.table(tokenizer))
    sets = {
        code: dict(zip(("sound", "faulty"), planting.verdicts(code, range(50)), strict=True), of=50)
        for code in planting.SETS
    }
    result = {"date": time.strftime("%Y-%m-%d"), "hardware": hardware(), "seconds": round(time.monotonic() - began, 1),
              "seeds": 3, "rows": rows, "sets": sets}  # fmt: skip
    TARGET.write_text(json.dumps(result, indent=1) + "\n")
    print(report(result))


def report(result: dict[str, Any]) -> str:
    """A line for each finding, precision and recall at each rate."""
    by_code: dict[str, list[dict[str, Any]]] = {}
    for row in result["rows"]:
        by_code.setdefault(row["code"], []).append(row)
    lines = ["| finding | planted | precision at 1, 5, 20 % | recall at 1, 5, 20 % |", "|---|---:|---|---|"]
    for code, rows in by_code.items():
        cells = ["  ".join(f"{row[name]:.3f}" for row in rows) for name in ("precision", "recall")]
        planted = ", ".join(str(row["planted"]) for row in rows)
        lines.append(f"| `{code}`{' (exact)' if rows[0]['exact'] else ''} | {planted} | {cells[0]} | {cells[1]} |")
    for code, told in result["sets"].items():
        sound, faulty = (f"{told[name]} of {told['of']} {name} sets" for name in ("sound", "faulty"))
        lines.append(f"| `{code}` (whole sets) | {told['of']} | told of {sound} | told of {faulty} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
