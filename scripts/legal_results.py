"""The tables of docs/legal.md from the newest run that built something: `scripts/legal_results.py STORE [EXPERIMENT]`.

Prints Markdown and writes benchmarks/<experiment>_<budget>.json with hardware, versions, date and every number.
"""

import json
import sys
from pathlib import Path
from typing import Any


def newest_build(runs: Path) -> dict[str, Any]:
    """The record of the newest run that built a stage: later ones that found everything ready took no time."""
    for file in sorted(runs.glob("*T*/run.json"), reverse=True):
        run = json.loads(file.read_text())
        if any(stage["status"] in ("BUILT", "RESUMED") for stage in run["stages"].values()):
            return run
    raise SystemExit(f"{runs}: no run has built anything")


def models(store: Path, run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Evaluated stage -> its summary, in the order of the run."""
    found = {}
    for name, stage in run["stages"].items():
        if stage["kind"] == "evaluate" and stage["digest"]:
            summary = store / stage["path"] / "results" / "summary.json"
            found[name.removeprefix("eval_")] = json.loads(summary.read_text())
    return found


def cell(result: dict[str, Any]) -> str:
    digits = 2 if result["value"] > 1.5 else 3
    return f"{result['value']:.{digits}f} ({result['low']:.{digits}f} to {result['high']:.{digits}f})"


def table(found: dict[str, dict[str, Any]]) -> str:
    """Markdown: a row for each suite, then for each slice by category seen in training or not."""
    names = list(found)
    lines = ["| suite | items | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for suite, first in next(iter(found.values())).items():
        lines.append(f"| `{suite}` | {first['n']} | " + " | ".join(cell(found[name][suite]) for name in names) + " |")
        for key in sorted(first["slices"]):
            if key.startswith("seen_category="):
                values = " | ".join(cell(found[name][suite]["slices"][key]) for name in names)
                lines.append(f"| `{suite}`, {key} | {first['slices'][key]['n']} | {values} |")
    return "\n".join(lines)


def main() -> None:
    store, experiment = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "legal"
    run = newest_build(store / "runs" / experiment)
    found = models(store, run)
    print(table(found))
    last = next(stage for stage in reversed(run["stages"].values()) if stage["digest"])
    env = json.loads((store / last["path"] / "manifest.json").read_text())["env"]
    report = {
        "experiment": experiment, "started": run["started"], "seconds": run["seconds"],
        "engine_seconds": run["engine_seconds"], "exit": run["exit"], "overrides": run["overrides"], "env": env,
        "stages": {name: stage["seconds"] for name, stage in run["stages"].items()},
        "gates": [gate["sentence"] for gate in run["gates"]], "results": found,
    }  # fmt: skip
    budget = str(run["resolved_config"].get("budget", "none")).removeprefix(f"{experiment}_")
    target = Path("benchmarks") / f"{experiment}_{budget}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
    print(f"\nwritten: {target}")


if __name__ == "__main__":
    main()
