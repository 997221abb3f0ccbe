"""How the run ended: the headline, the verdict in words, and the gates."""

from typing import Any

from pipeline.report import words
from pipeline.report.collect import Run
from pipeline.report.effect import Effect, extreme, tones

ENDS = {
    2: "The configuration was refused before anything ran.",
    4: "The data broke its contract before training.",
    5: "A stage failed; the same command resumes it.",
    130: "The run was interrupted; the same command resumes it.",
}


def headline(run: Run, found: Effect) -> dict[str, Any]:
    judged = gates(run, found)
    passed = sum(gate.get("passed") is True for gate in judged)
    tone = "bad" if run.data.get("exit") else "good" if passed == len(judged) else "warn"
    return {
        "experiment": run.data.get("experiment") or "?",
        "verdict": verdict(run, found),
        "tone": tone,
        "best": extreme(found, "good"),
        "cost": extreme(found, "bad"),
        "gates": f"{passed} of {len(judged)}" if judged else "none set",
        "took": words.duration(run.data.get("seconds")),
        "date": words.moment(run.data.get("started")),
    }


def verdict(run: Run, found: Effect) -> str:
    """How the run ended, what improved most and what it cost."""
    best, cost, by = extreme(found, "good"), extreme(found, "bad"), tones(found)
    parts = [_end(run)]
    if found.last:
        total, (better, worse, level) = len(found.last), (len(by[tone]) for tone in ("good", "bad", "flat"))
        against = f"Against the start, {found.models[-1]} is better on {better} of {total} suites, worse on {worse}"
        parts.append(against + (f", unclear on {level}." if level else "."))
    if best:
        parts.append(f"Most improved: {best}.")
    if cost:
        parts.append(f"Largest cost: {cost}.")
    return " ".join(parts)


def _end(run: Run) -> str:
    code, all_gates = run.data.get("exit"), gates_of(run)
    missed = [gate for gate in all_gates if gate.get("passed") is False]
    if code == 3:
        return _refusal(missed)
    broken = [node for node in run.nodes.values() if node.status == "FAILED"]
    if broken and code != 130:
        first = str(broken[0].entry.get("reason") or "see its log").partition("\n")[0]
        return f"Stage {broken[0].name} failed: {first.rstrip('.')}."
    if code:
        return ENDS.get(code, f"The run ended with exit code {code}.")
    if not all_gates:
        return "The run finished; no gates were set."
    if missed:
        warned = ", ".join(str(gate.get("name")) for gate in missed)
        return f"{len(all_gates) - len(missed)} of {len(all_gates)} gates passed; {warned} only warned."
    return f"Every gate passed ({len(all_gates)} of {len(all_gates)})."


def _refusal(missed: list[dict[str, Any]]) -> str:
    blocking = next((gate for gate in missed if gate.get("action") != "warn"), None)
    if blocking is None:
        return "A gate refused the model."
    return f"Gate {blocking.get('name')} refused {blocking.get('stage')}: {_sentence(blocking)}."


def gates_of(run: Run) -> list[dict[str, Any]]:
    return run.data.get("gates") or []


def gates(run: Run, found: Effect) -> list[dict[str, Any]]:
    """Judged gates as the run wrote them, then those that the experiment sets and the run did not reach."""
    judged = [
        {**gate, "word": _gate_word(gate), "sentence": _capital(_sentence(gate)) + ".", **_tested(gate, found)}
        for gate in gates_of(run)
    ]
    names = {gate.get("name") for gate in judged}
    waiting = {name: gate for name, gate in (run.config.get("gates") or {}).items() if name not in names}
    for name, gate in waiting.items():
        sentence = f"{gate.get('rule')} on {gate.get('suite')} was not judged: the run did not get that far."
        judged.append({**gate, "name": name, "word": "not judged", "sentence": sentence, **_tested({}, found)})
    return judged


def _tested(gate: dict[str, Any], found: Effect) -> dict[str, str]:
    """p, p corrected for the gates that were judged together, and the smallest change that is seen."""
    family, seen = gate.get("family") or 1, words.finite(gate.get("seen_from"))
    measured = (found.summaries.get(str(gate.get("stage"))) or {}).get(str(gate.get("suite"))) or {}
    metric = str(measured.get("metric"))
    size = "" if seen is None else words.signed(metric, seen).lstrip("+") + words.change_unit(metric)
    small = "too small a suite" if gate.get("too_small") else ""
    corrected = f"{words.p_value(gate.get('adjusted_p'))} of {family}" if family > 1 else "–"
    return {
        "p_told": words.p_value(gate.get("p")),
        "adjusted_told": corrected,
        "seen_told": size or "–",
        "small": small,
    }


def _sentence(gate: dict[str, Any]) -> str:
    """The gate's own sentence without what stands beside it (name, outcome) and without its full stop."""
    name, sentence = str(gate.get("name")), str(gate.get("sentence") or "nothing was noted")
    if sentence.startswith(f"{name} "):
        sentence = sentence.partition(": ")[2] or sentence
    return sentence.replace("`", "").rstrip(".")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _gate_word(gate: dict[str, Any]) -> str:
    if gate.get("passed") is None:
        return "not judged"
    return "passed" if gate["passed"] else "warning" if gate.get("action") == "warn" else "refused"
