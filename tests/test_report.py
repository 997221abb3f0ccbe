"""The report: what it says of whole, partial and refused runs, and what it must never do."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_fixture import MODELS, SUITES, FakeRun, finding, whole_run

from pipeline.report import write_report
from pipeline.report.collect import read_json, read_run
from pipeline.report.page import view
from pipeline.report.plots import curve, curves, moving_average, ticks
from pipeline.report.rendering import escape_markdown, fence
from pipeline.report.words import duration, interval, metric_value, moment, title

EVIL = "<script>alert('x')</script> | `a` **b** [c](d) \"q\""
VOID = {"meta", "br", "line", "polyline", "img", "hr", "link"}


class Nesting(HTMLParser):
    """Fails on a tag that closes nothing; keeps tags, attributes and ids."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def pages(run_dir: Path, root: Path) -> tuple[str, str]:
    """The HTML, checked for nesting, and the Markdown."""
    html = write_report(run_dir, root).read_text()
    parser = Nesting()
    parser.feed(html)
    assert parser.open == []
    return html, (run_dir / "report.md").read_text()


def start(root: Path) -> FakeRun:
    run = FakeRun(root)
    run.artifact("base", "base", "model", 9.2)
    run.dataset("legal_sft", 2104)
    return run


def test_whole_run_says_what_changed_and_at_what_cost(tmp_path: Path) -> None:
    html, markdown = pages(whole_run(tmp_path), tmp_path)
    for text in (html, markdown):
        assert "2 of 3 gates passed" in text
        assert "Against the start, dpo is better on 5 of 7 suites, worse on 2. Most" in text
        assert "Most improved: Refusal from 10.0 % to 72.5 % (+62.5 pts, 95 % interval" in text
        assert "Largest cost: Over refusal" in text
        assert "no clear change" in text
        assert "79.8 %" in text and "always the commonest answer 31.0 %" in text


def test_pages_carry_the_same_numbers(tmp_path: Path) -> None:
    run_dir = whole_run(tmp_path)
    html, markdown = pages(run_dir, tmp_path)
    for row in view(read_run(run_dir, tmp_path), tmp_path)["effect"].rows:
        assert len(row.cells) == len(MODELS)
        for cell in row.cells:
            for text in (html, markdown):
                assert cell.value in text and cell.interval in text and cell.change in text and cell.span in text


def test_padding_stands_beside_the_tokens(tmp_path: Path) -> None:
    for text in pages(whole_run(tmp_path), tmp_path):
        assert "2.1 %" in text and "packed; without packing 41.4 %" in text


def test_lower_perplexity_is_better_and_higher_over_refusal_is_worse(tmp_path: Path) -> None:
    run_dir = whole_run(tmp_path)
    rows = {row.name: row.cells for row in view(read_run(run_dir, tmp_path), tmp_path)["effect"].rows}
    assert (rows["Domain perplexity"][2].arrow, rows["Domain perplexity"][2].tone) == ("▼", "good")
    assert (rows["Over refusal"][3].arrow, rows["Over refusal"][3].tone) == ("▲", "bad")
    assert rows["Domain perplexity"][0].change == ""  # the start is not compared with itself


def test_change_agrees_with_the_gates(tmp_path: Path) -> None:
    from pipeline.judging.gates import Results, paired_change

    run_dir = whole_run(tmp_path)
    run = read_run(run_dir, tmp_path)
    results = [Results(run.nodes[f"eval_{name}"].folder) for name in ("dpo", "base")]
    expected = paired_change(*(result.items("general_perplexity") for result in results), "perplexity")
    move = view(run, tmp_path)["effect"].last["general_perplexity"].change
    assert (move.change, move.low, move.high) == (expected.change, expected.low, expected.high)


def test_evaluations_of_different_items_are_not_compared(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.evaluated("base", items=10)
    run.trained("sft")
    run.evaluated("sft", items=12)
    html, _ = pages(run.finish(), tmp_path)
    assert "not comparable:" in html and "not measured on the same items" in html


def test_everything_from_data_is_escaped(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.evaluated("base")
    run.checked("sft", finding("warning", "near_duplicates", accepted="known"), finding("error", "secrets"))
    run.trained("sft")
    run.evaluated("sft")
    for path in tmp_path.rglob("*.json"):
        path.write_text(json.dumps(poisoned(json.loads(path.read_text()))))
    run.gate("sft", EVIL, False, EVIL)
    for entry in run.stages.values():
        entry["reason"] = EVIL
    run_dir = run.finish(
        3, overrides=[EVIL], experiment=EVIL, resolved_config={"description": EVIL, "model": {"source": EVIL}}
    )
    html, markdown = pages(run_dir, tmp_path)
    assert "<script" not in html and "&lt;script&gt;" in html
    outside_fences = re.sub(r"^(`{3,})text\n.*?^\1$", "", markdown, flags=re.M | re.S)
    assert "<script" not in outside_fences and "**b**" not in outside_fences and "[c](d)" not in outside_fences


def poisoned(value: object, key: str = "") -> object:
    """`value` with every text and every free name replaced; words that the page acts on stay."""
    if isinstance(value, dict):
        return {k if k.isidentifier() else k + EVIL: poisoned(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [poisoned(one, key) for one in value]
    return EVIL if isinstance(value, str) and key not in ("metric", "item", "level") else value


def test_page_needs_no_network_and_every_link_has_a_target(tmp_path: Path) -> None:
    run_dir = whole_run(tmp_path)
    html, _ = pages(run_dir, tmp_path)
    parser = Nesting()
    parser.feed(html)
    ids = [attrs["id"] for _, attrs in parser.seen if "id" in attrs]
    links = [str(attrs["href"]) for _, attrs in parser.seen if "href" in attrs]
    assert len(ids) == len(set(ids))
    assert {link.removeprefix("#") for link in links if link.startswith("#")} <= set(ids)
    assert all((run_dir / link).is_file() for link in links if not link.startswith("#"))
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in parser.seen}
    assert "http://" not in html and "https://" not in html and "url(" not in html and "@import" not in html


def test_what_the_checks_found_stands_beside_the_data_with_a_link_to_each_quality_page(tmp_path: Path) -> None:
    run_dir = whole_run(tmp_path)
    html, markdown = pages(run_dir, tmp_path)
    for text in (html, markdown.replace("\\", "")):
        assert "found 1 warning, 1 note" in text and "found nothing" in text
        assert text.index("near_duplicates") < text.index("rows_cut")
        assert "3 of 2104 rows show near_duplicates." in text and "Mend them." in text and "3 of 2\u202f104" in text
    (link,) = re.findall(r'<a href="([^"#]+)">legal_sft</a>', html)
    assert link.startswith("../../../artifacts/contract/") and link.endswith("/quality/legal_sft/quality.html")
    (same,) = re.findall(r"\[legal\\_sft\]\(<([^>]+)>\)", markdown)
    assert same.replace("\\", "") == link and (run_dir / link).is_file()


def test_the_name_of_a_data_set_cannot_break_its_link(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.checked("sft")
    quality = tmp_path / run.stages["check_sft"]["path"] / "quality"
    (quality / "legal_sft").rename(quality / 'a"b (c)>#d')
    run_dir = run.finish()
    html, markdown = pages(run_dir, tmp_path)
    assert "/quality/a%22b%20%28c%29%3E%23d/quality.html" in html
    assert "/quality/a%22b%20%28c%29%3E%23d/quality.html" in markdown


def test_an_accepted_finding_shows_its_reason_and_a_broken_contract_ends_the_run(tmp_path: Path) -> None:
    run = start(tmp_path)
    accepted = finding("info", "length_outliers", accepted="Licence texts are long.", remedy="Look at them.")
    run.checked("sft", accepted, finding("error", "secrets"))
    run.stopped("check_domain", "contract", "findings", "SKIPPED", "the data of sft broke its contract")
    html, markdown = pages(run.finish(4), tmp_path)
    for text in (html, markdown.replace("\\", "")):
        assert "The data broke its contract before training." in text and "found 1 error, 1 note" in text
        assert "Accepted: Licence texts are long." in text and "Look at them." not in text
        assert "the data of sft broke its contract" in text


def test_second_report_of_the_same_results_imports_nothing_heavy(tmp_path: Path) -> None:
    run_dir = whole_run(tmp_path, "HIT")
    write_report(run_dir, tmp_path)
    code = (
        "import sys; from pathlib import Path; from pipeline.report import write_report\n"
        "assert 'jinja2' not in sys.modules\n"
        f"write_report(Path({str(run_dir)!r}), Path({str(tmp_path)!r}))\n"
        "print([m for m in ('numpy', 'pyarrow', 'matplotlib', 'torch', 'omegaconf') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_largest_stage_is_named_with_its_memory(tmp_path: Path) -> None:
    for text in pages(whole_run(tmp_path), tmp_path):
        assert "The largest stage held 3.0 GiB of memory." in text and "1.0 GiB" in text


def test_all_hit_run_names_when_things_were_built(tmp_path: Path) -> None:
    html, markdown = pages(whole_run(tmp_path, "HIT"), tmp_path)
    assert "built in 3 min 32 s" in html and "built in 3 min 32 s" in markdown
    assert "Nothing was built in this run" in html


def test_failed_stage(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.evaluated("base")
    run.stopped("sft", "sft", "model", "FAILED", "out of memory")
    run.stopped("eval_sft", "evaluate", "results", "SKIPPED", "sft failed")
    run.stopped("dpo", "dpo", "model", "SKIPPED", "sft failed")
    html, markdown = pages(run.finish(5), tmp_path)
    for text in (html, markdown):
        assert "Stage sft failed: out of memory." in text
        assert "Not measured: sft (FAILED), dpo (SKIPPED)." in text
        assert "was not judged: the run did not get that far" in text


def test_interrupted_stage_is_not_called_a_failure(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.stopped("sft", "sft", "model", "FAILED", "interrupted")
    html, _ = pages(run.finish(130), tmp_path)
    assert "The run was interrupted; the same command resumes it." in html and "sft failed" not in html


def test_refused_by_a_gate(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.evaluated("base")
    run.trained("sft")
    run.evaluated("sft")
    run.gate(
        "sft",
        "general_perplexity",
        False,
        "sft_general_perplexity refused: perplexity of `sft` is 21.9 against 21.2 of `base`",
    )
    run.stopped("domain", "domain", "model", "GATED", "a gate refused sft")
    html, markdown = pages(run.finish(3), tmp_path)
    for text in (html, markdown.replace("\\", "")):
        assert "Gate sft_general_perplexity refused sft: perplexity of sft is 21.9 against 21.2 of base." in text
        assert "GATED" in text


def test_run_without_any_evaluation(tmp_path: Path) -> None:
    html, markdown = pages(start(tmp_path).finish(130), tmp_path)
    assert "No model was evaluated in this run." in html and "No model was evaluated in this run." in markdown
    assert "The run was interrupted; the same command resumes it." in html


def test_run_in_which_nothing_was_planned(tmp_path: Path) -> None:
    html, _ = pages(FakeRun(tmp_path).finish(2, resolved_config={}, engine_seconds=None), tmp_path)
    assert "The configuration was refused before anything ran." in html


def test_suite_that_only_some_models_were_measured_on(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.evaluated("base")
    run.trained("sft")
    run.evaluated("sft")
    path = tmp_path / run.stages["eval_sft"]["path"] / "results" / "summary.json"
    path.write_text(json.dumps({suite: result for suite, result in read_json(path).items() if suite != "refusal"}))
    rows = {row.name: row for row in view(read_run(run.finish(), tmp_path), tmp_path)["effect"].rows}
    assert [cell.value for cell in rows["Refusal"].cells] == ["10.0 %", "–"]
    assert len(rows) == len(SUITES)


def test_curves_skip_what_is_not_a_number() -> None:
    history = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": float("nan")}, {"step": 3, "loss": 1.0}, {"eval_loss": 3}]
    (found,) = curves(history)
    assert (found.first, found.last, len(found.raw.split())) == (2.0, 1.0, 2)
    assert curves([{"step": 1, "loss": 2.0}]) == []


@pytest.mark.parametrize("values", [[1.0, 1.0], [0.0, 0.0], [1e-9, 2e-9], [1e6, 3e6], [-3.0, 2.0]])
def test_curve_stays_inside_its_box(values: list[float]) -> None:
    drawn = curve("loss", list(enumerate(values, 1)))
    heights = [float(point.split(",")[1]) for point in drawn.raw.split()]
    assert all(0 <= height <= 200 for height in heights) and len(drawn.yticks) >= 2


def test_ticks_are_round_and_the_average_keeps_the_length() -> None:
    assert ticks(1.52, 2.87, 4) == [1.5, 2.0, 2.5]
    assert len(moving_average([float(i) for i in range(57)])) == 57


def test_words() -> None:
    assert metric_value("perplexity", 11.716) == "11.72" and metric_value("accuracy", 0.7241) == "72.4 %"
    assert metric_value("accuracy", float("nan")) == "–" and interval("accuracy", 0.1, 0.2) == "10.0 to 20.0 %"
    assert [duration(s) for s in (3.21, 59.7, 192, 3900, None)] == [
        "3.2 s",
        "1 min 00 s",
        "3 min 12 s",
        "1 h 05 min",
        "–",
    ]
    assert moment("2026-01-31T09:30:00+01:00") == "2026-01-31 08:30 UTC" and moment("soon") == "soon"
    assert title("domain_perplexity") == "Domain perplexity"


def test_fence_holds_any_text() -> None:
    assert str(fence("a\n````\nb")).startswith("`````text\n")
    assert escape_markdown("a|b\nc_d <i>") == r"a\|b c\_d &lt;i\>"
