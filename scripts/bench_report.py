"""What was measured, as Markdown and as a drawing: every contender's speed, and how much faster the fast step is."""

import json
import sys
from html import escape
from pathlib import Path
from typing import Any

GIVEN = {"four_bit": False, "prompt": 0, "shape": "cpu"}  # of rows that say nothing of it
ALIKE = ("workload", "model", "dtype", "four_bit", "prompt", "shape")  # rows that are compared with each other


def read(files: list[Path]) -> list[dict[str, Any]]:
    if not files:
        sys.exit("bench: no benchmarks/step_*.json; run `make bench` first")
    results = [json.loads(file.read_text()) for file in files]
    for result in results:
        result["rows"] = in_order([GIVEN | row for row in result["rows"]])
        result["did_not_run"] = [GIVEN | row for row in result.get("did_not_run", [])]
    return results


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that are compared next to each other, the fast step first: rows measured again are the file's last."""
    groups = list(dict.fromkeys(tuple(row[key] for key in ALIKE) for row in rows))
    names = list(INK)

    def place(row: dict[str, Any]) -> tuple[int, int]:
        contender = names.index(row["contender"]) if row["contender"] in INK else len(names)
        return groups.index(tuple(row[key] for key in ALIKE)), contender

    return sorted(rows, key=place)


def faster(row: dict[str, Any], rows: list[dict[str, Any]]) -> float | None:
    """How many times a row's speed the fast step's is on the same tokens; None if that was not measured."""
    alike = [other for other in rows if all(other[key] == row[key] for key in ALIKE)]
    fast = next((other["tokens_per_s"] for other in alike if other["contender"] == "fast"), None)
    return None if fast is None or row["contender"] == "fast" else fast / row["tokens_per_s"]


def named(row: dict[str, Any]) -> str:
    """The workload, and what else it is."""
    prompt = f"prompts of {row['prompt']}" if row["prompt"] else ""
    return ", ".join(filter(None, [row["workload"], prompt, "4-bit" if row["four_bit"] else ""]))


# -- Markdown -----------------------------------------------------------------------------------------------------
def report(files: list[Path]) -> str:
    """A section for each model of each file."""
    return "\n\n".join(
        section(result, model) for result in read(files) for model in dict.fromkeys(r["model"] for r in result["rows"])
    )


def section(result: dict[str, Any], model: str) -> str:
    rows, said = [row for row in result["rows"] if row["model"] == model], result["hardware"]
    where = ", ".join(said["gpus"]) if rows[0]["device"] == "cuda" else f"{said['cpu']}, {said['cores']} cores"
    packages = ", ".join(f"{name} {number}" for name, number in result["packages"].items())
    table = [cells(row, rows) for row in rows]
    names = [name for name in table[0] if any(line[name] for line in table)]
    lines = [
        f"{result['date']}, {where}, model {model}; {packages}.", "",
        f"| {' | '.join(names)} |", f"|{'|'.join('---' if name in LEFT else '---:' for name in names)}|",
        *(f"| {' | '.join(line[name] for name in names)} |" for line in table),
    ]  # fmt: skip
    lines += [f"\n{said}" for said in other_packages(rows, result["packages"])]
    return "\n".join([*lines, *(refusal(row) for row in result["did_not_run"] if row["model"] == model)])


LEFT = ("workload", "dtype", "contender")


def cells(row: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, str]:
    """By column; one that is empty in every row is left out."""
    times = faster(row, rows)
    return {
        "workload": named(row), "dtype": row["dtype"], "contender": row["contender"],
        "tokens/s": f"{row['tokens_per_s']:.0f}",
        "pairs/s": f"{row['pairs_per_s']:.2f}" if "pairs_per_s" in row else "",
        "median step (spread), s": f"{row['step_s_median']:.3g} ({row['step_s_spread']:.2g})",
        "peak, GB": f"{row['peak_bytes'] / 1e9:.2f}",
        "planned, GB": f"{row['planned_bytes'] / 1e9:.2f}" if "planned_bytes" in row else "",
        "of the floor": f"{row['share_of_floor']:.0%}" if "share_of_floor" in row else "",
        "fast is faster": "" if times is None else f"{times:.2f}x",
    }  # fmt: skip


def other_packages(rows: list[dict[str, Any]], packages: dict[str, str]) -> list[str]:
    """Of contenders that ran with other versions than the rest."""
    found = {}
    for row in rows:
        own = row.get("packages", packages)
        if differing := {name: number for name, number in own.items() if packages.get(name) != number}:
            found[row["contender"]] = ", ".join(f"{name} {number}" for name, number in differing.items())
    return [f"{contender} ran with {versions}." for contender, versions in found.items()]


def refusal(row: dict[str, Any]) -> str:
    return f"\n{named(row)}, {row['dtype']}, {row['contender']}: did not run: {row['reason']}"


# -- a drawing ----------------------------------------------------------------------------------------------------
BAR, GAP, LABEL, WIDTH, TOP = 16, 14, 250, 760, 30
INK = {"fast": "#c2410c", "trl-default": "#9ca3af", "trl-best": "#4b5563", "unsloth": "#0e7490"}
OTHER = "#e8a87c"  # a variant of the fast step


def drawing(files: list[Path], out: Path) -> None:
    results = read(files)
    out.write_text(drawn([row for result in results for row in result["rows"]]))
    print(f"drawn: {out}")


def drawn(rows: list[dict[str, Any]]) -> str:
    """Bars of tokens/s; the longest bar of each workload fills the width, since a workload is compared with itself."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["device"], *(row[key] for key in ALIKE)), []).append(row)
    parts, y = ['<text x="8" y="18">tokens/s, not counting padding</text>'], TOP
    for group in groups.values():
        parts.append(f'<text x="8" y="{y + 12}" font-weight="bold">{escape(title(group[0]))}</text>')
        for row in group:
            y += BAR
            parts += bar(row, y, max(other["tokens_per_s"] for other in group))
        y += BAR + GAP
    size = f'viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12" fill="#333">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>\n"])


def title(row: dict[str, Any]) -> str:
    return f"{named(row)}: {row['model']}, {row['dtype']}, {row['device']}"


def bar(row: dict[str, Any], y: int, longest: float) -> list[str]:
    length = round((WIDTH - LABEL - 90) * row["tokens_per_s"] / longest, 1)
    colour = INK.get(row["contender"], OTHER)
    return [
        f'<text x="{LABEL - 8}" y="{y + 12}" text-anchor="end">{escape(row["contender"])}</text>',
        f'<rect x="{LABEL}" y="{y + 2}" width="{length}" height="{BAR - 4}" fill="{colour}"/>',
        f'<text x="{LABEL + length + 6}" y="{y + 12}">{row["tokens_per_s"]:,.0f}</text>',
    ]
