"""scripts/bench_step.py and its parts: rows, floors, what tells rows apart, contenders that die, the report."""

import json
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def bench():
    """The scripts find each other as they do when one of them is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        import bench_report
        import bench_shapes
        import bench_step

        yield type("Bench", (), {"step": bench_step, "shapes": bench_shapes, "report": bench_report})


def job(bench, **changes):
    return replace(
        bench.shapes.Job("dpo", "fast", "/models/llama-1b", "cuda", "bfloat16", 2, 2, shape="gpu"), **changes
    )


# -- rows ---------------------------------------------------------------------------------------------------------
def test_every_contender_gets_the_same_rows(bench):
    first, second = (bench.shapes.rows_of(job(bench, contender=name, prompt=256), 512) for name in ("fast", "unsloth"))
    assert first == second and len(first) == 2 * (2 + bench.shapes.WARM_UP)
    assert {len(row["prompt_ids"]) for row in first} == {256}
    assert len({tuple(row["prompt_ids"]) for row in first}) == len(first), "equal prompts would be shared"


def test_texts_for_a_gpu_train_every_token_and_are_capped(bench):
    rows = bench.shapes.rows_of(job(bench, workload="sft", batch=200), 512)
    lengths = sorted(len(row["input_ids"]) for row in rows)
    assert 250 < lengths[len(lengths) // 2] < 350 and lengths[-1] == 2048
    assert all(row["labels"][0] == -100 and row["labels"][1:] == row["input_ids"][1:] for row in rows)
    assert {len(row["input_ids"]) for row in bench.shapes.rows_of(job(bench, workload="domain"), 512)} == {2048}


def test_texts_for_a_cpu_have_a_quarter_supervised(bench):
    row = bench.shapes.rows_of(job(bench, workload="sft", shape="cpu"), 512)[0]
    assert sum(label != -100 for label in row["labels"]) == len(row["labels"]) // 4


@pytest.mark.parametrize(
    ("model", "prompt", "batch"), [("llama-1b", 1024, 13), ("llama-8b", 2048, 2), ("other", 4096, 1)]
)
def test_a_step_on_a_gpu_has_as_many_pairs_as_its_memory_allows(bench, model, prompt, batch):
    assert bench.shapes.batch_of("dpo", model, "gpu", prompt) == batch


# -- the floor ----------------------------------------------------------------------------------------------------
def pair(prompt, chosen, rejected):
    return {"prompt_ids": [0] * prompt, "chosen_ids": [0] * chosen, "rejected_ids": [0] * rejected}


@pytest.mark.parametrize(
    ("model", "tokens_per_s"), [("llama-1b", 144e3), ("llama-8b", 24.6e3), ("smollm2-random", 969e3)]
)
def test_the_floor_of_sft(bench, model, tokens_per_s):
    row = {"input_ids": [0] * 2048, "labels": [0] * 2048}
    work = bench.shapes.flops_of(bench.shapes.sizes_of(bench.shapes.RANDOM[model]), row)
    assert 2048 * 790e12 / work == pytest.approx(tokens_per_s, rel=0.01)


@pytest.mark.parametrize(
    ("model", "lengths", "pairs_per_s"),
    [("llama-1b", (1024, 256, 256), 111), ("llama-8b", (1024, 256, 256), 17.0), ("llama-8b", (2048, 256, 256), 10.0),
     ("llama-8b", (512, 512, 512), 16.8)],
)  # fmt: skip
def test_the_floor_of_pairs_computes_a_prompt_once(bench, model, lengths, pairs_per_s):
    sizes = bench.shapes.sizes_of(bench.shapes.RANDOM[model])
    assert 790e12 / bench.shapes.flops_of(sizes, pair(*lengths)) == pytest.approx(pairs_per_s, rel=0.01)
    assert bench.shapes.flops_of(sizes, pair(*lengths), reward=True) < bench.shapes.flops_of(sizes, pair(*lengths))


def test_the_sizes_are_those_of_the_model(bench):
    import torch
    from transformers import LlamaConfig

    found = bench.shapes.drawn(LlamaConfig(**bench.shapes.RANDOM["llama-tiny"]), "float32", "cpu")
    linear = [m for m in found.modules() if isinstance(m, torch.nn.Linear) and m is not found.lm_head]
    sizes = bench.shapes.sizes_of(found.config.to_dict())
    assert sizes.linear == sum(m.weight.numel() for m in linear) and sizes.head == found.lm_head.weight.numel()
    assert sizes.adapter == 16 * sum(m.in_features + m.out_features for m in linear)


def test_a_row_of_a_gpu_says_how_near_the_floor_it_is(bench, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(bench.shapes.RANDOM["llama-1b"]))
    here = job(bench, model=str(tmp_path), prompt=1024)
    floor = bench.shapes.floor(here, 395.0)
    twice = bench.shapes.floor(here, 790.0)
    assert twice["floor_pairs_per_s"] == pytest.approx(2 * floor["floor_pairs_per_s"])
    assert floor["floor_tflops"] == 395.0
    contender = bench.step.Contender(here, None, None, [9.0] * 3 + [1.0, 3.0], [0] * 3 + [10, 30], {"peak_bytes": 5})
    row = bench.step.row_of(contender, 395.0)
    assert row["step_s_median"] == 2.0 and row["tokens_per_s"] == 10.0 and row["warm_up_s"] == 27.0
    assert row["share_of_floor"] == pytest.approx(10.0 / floor["floor_tokens_per_s"])
    assert "share_of_floor" not in bench.step.row_of(replace(contender, job=replace(here, device="cpu")), 395.0)


# -- what tells rows apart ----------------------------------------------------------------------------------------
def row(**changes):
    return {"workload": "dpo", "device": "cuda", "model": "llama-1b", "contender": "fast", "dtype": "bfloat16",
            "four_bit": False, "prompt": 256, "shape": "gpu", "tokens_per_s": 100.0, "step_s_median": 1.0,
            "step_s_spread": 0.1, "peak_bytes": 2_000_000_000, "steps": 20} | changes  # fmt: skip


SAID = {"date": "2026-11-25", "hardware": {"cpu": "C", "cores": 2, "gpus": ["G"]}, "packages": {"torch": "2.11.0"}}


def test_rows_of_other_models_prompts_and_weights_stay(bench, tmp_path):
    out = tmp_path / "step_cuda.json"
    others = [row(model="llama-8b"), row(four_bit=True), row(prompt=1024), row(contender="trl-best"), row(dtype="f")]
    for each in [*others, row(), row(tokens_per_s=7.0)]:
        bench.step.write(SAID, [each], out)
    assert json.loads(out.read_text())["rows"] == [*others, row(tokens_per_s=7.0)]


def test_a_death_replaces_the_row_and_a_row_the_death(bench, tmp_path):
    out, death = tmp_path / "step_cuda.json", row() | {"reason": "out of memory"}
    bench.step.write(SAID, [row()], out)
    bench.step.write(SAID, [death], out)
    assert json.loads(out.read_text())["rows"] == [] and json.loads(out.read_text())["did_not_run"] == [death]
    bench.step.write(SAID, [row()], out)
    assert json.loads(out.read_text())["rows"] == [row()] and json.loads(out.read_text())["did_not_run"] == []


def test_another_machine_or_version_begins_anew(bench, tmp_path):
    out = tmp_path / "step_cuda.json"
    bench.step.write(SAID, [row(prompt=1024)], out)
    bench.step.write(SAID | {"packages": {"torch": "2.13.0"}}, [row()], out)
    assert json.loads(out.read_text())["rows"] == [row()]


def test_rows_written_before_there_were_models_of_several_kinds_are_the_ordinary_ones(bench):
    old = {key: value for key, value in row().items() if key not in ("four_bit", "prompt", "shape")}
    assert bench.step.identity(old) == bench.step.identity(row(prompt=0, shape="cpu"))


# -- 4-bit weights ------------------------------------------------------------------------------------------------
def test_weights_are_quantized_to_the_bits_that_a_stage_loads(bench, tmp_path):
    import torch
    from bench_contenders import quantize

    from pipeline.context import Artifact
    from stages.models.quantization import load_quantized
    from stages.models.sources import toy

    model, _ = toy()
    model.to(torch.bfloat16).requires_grad_(False).save_pretrained(tmp_path / "model")
    quantize(model)
    expected = load_quantized(Artifact("id", "base", "base", tmp_path, "digest"), "cpu", None).state_dict()
    found = model.state_dict()
    assert found.keys() == expected.keys() and any(value.dtype == torch.uint8 for value in found.values())
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


# -- packs of one layout ------------------------------------------------------------------------------------------
def test_layers_captured_for_one_layout_give_the_same_and_take_no_other(bench):
    import torch
    from bench_compiled import capture
    from bench_contenders import lora
    from peft import get_peft_model

    from stages.kernels.step import install
    from stages.models.sources import toy

    model, _ = toy()
    get_peft_model(model.requires_grad_(False), lora())
    install(model, "fast")
    ids = torch.arange(100, 140).view(2, 20)
    labels = ids.where(ids % 20 > 0, -100)
    plain = model(input_ids=ids, labels=labels, fused_lm_head=True)
    capture(model)
    for _ in range(2):
        model.zero_grad()
        found = model(input_ids=ids, labels=labels, fused_lm_head=True)
        assert torch.equal(found.log_probs, plain.log_probs)
        found.loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    with pytest.raises(ValueError, match="another layout"):
        model(input_ids=ids[:, :10], labels=labels[:, :10], fused_lm_head=True)


def test_steps_of_ppo_are_rows_like_all_others(bench):
    from bench_ppo import steps_of

    made = steps_of([9.0, 1.0, 2.0, 3.0], [5, 10, 20, 30])
    assert made == {
        "tokens_per_s": 10.0, "tokens_per_step": 20, "step_s_median": 2.0, "step_s_spread": 2.0, "steps": 3
    }  # fmt: skip
    assert steps_of([9.0, 1.0], [5, 10])["step_s_spread"] == 0.0


# -- contenders that die ------------------------------------------------------------------------------------------
def script(bench, tmp_path, text, **changes):
    """A contender whose process runs `text` in place of a trainer."""
    log = tmp_path / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    return bench.step.Contender(job(bench, model="/models/toy", device="cpu", **changes), process, log)


GOES = """
import json, sys
def say(**said): print(json.dumps(said), flush=True)
say(ready="imported"); sys.stdin.readline()
for i in range(6):
    say(ready=i); sys.stdin.readline(); say(seconds=1.0, tokens=10)
say(peak_bytes=7)
"""


def test_a_contender_that_dies_gives_its_reason_and_the_others_go_on(bench, tmp_path):
    (tmp_path / "other").mkdir()
    dies = script(bench, tmp_path, GOES.replace("say(seconds", "1 / (i < 4); say(seconds"), contender="trl-best")
    goes = script(bench, tmp_path / "other", GOES)
    first, second = bench.step.in_turns([dies, goes], 60, 790.0)
    assert first["reason"] == "ZeroDivisionError: division by zero" and first["contender"] == "trl-best"
    assert second["tokens_per_s"] == 10.0 and second["peak_bytes"] == 7 and second["steps"] == 3


def test_a_contender_that_takes_too_long_is_given_up(bench, tmp_path):
    (found,) = bench.step.in_turns([script(bench, tmp_path, "import time; time.sleep(60)")], 0.2, 790.0)
    assert found["reason"] == "it took longer than --limit"


def test_a_contender_that_cannot_run_here_says_why(bench):
    import bench_contenders

    assert "CUDA" in bench_contenders.cannot(job(bench, contender="unsloth", device="cpu"))
    assert "reward" in bench_contenders.cannot(job(bench, contender="unsloth", workload="reward"))
    assert "4-bit" in bench_contenders.cannot(job(bench, contender="fast-cached"))
    assert bench_contenders.cannot(job(bench, contender="fast-cached", four_bit=True)) is None


# -- one call -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def call(bench):
    import bench_gpu

    return bench_gpu


def given(out, **changes):
    return Namespace(**{"out": out, "unsloth_site": "", "dry": False, "parts": None, "seconds": 60.0} | changes)


@pytest.mark.parametrize("dry", [False, True])
def test_every_part_of_the_call_is_a_command_that_its_script_takes(bench, call, tmp_path, monkeypatch, dry):
    asked = given(tmp_path, dry=dry, unsloth_site="/site")
    for part in call.PARTS:
        _, *words = part.words(asked)
        if words[0].endswith("bench_step.py"):
            monkeypatch.setattr(sys, "argv", words)
            found = bench.step.options()
            assert found.unsloth_site == "/site" and found.device == ("cpu" if dry else "cuda")
    assert len({part.name for part in call.PARTS}) == len(call.PARTS)


def test_the_floor_is_reckoned_with_what_was_measured_on_a_gpu(call, tmp_path):
    assert call.measured_tflops(given(tmp_path)) == 790.0
    (tmp_path / "ceilings.json").write_text('{"device": "cpu", "product_tflops": 0.1}')
    assert call.measured_tflops(given(tmp_path)) == 790.0
    (tmp_path / "ceilings.json").write_text('{"device": "cuda", "product_tflops": 771.26}')
    assert call.measured_tflops(given(tmp_path)) == 771.3


def test_a_part_that_hangs_or_fails_leaves_the_others_their_time(call, tmp_path, monkeypatch):
    texts = {"hangs": "import time; time.sleep(60)", "fails": "print('why'); raise SystemExit(3)", "late": ""}
    limits = {"hangs": 0.5, "fails": 30, "late": 30}
    parts = [
        call.Part(name, limits[name], lambda _, text=text: [sys.executable, "-c", text]) for name, text in texts.items()
    ]
    monkeypatch.setattr(call, "PARTS", parts)
    monkeypatch.setattr(call, "options", lambda: given(tmp_path, parts=["hangs", "fails"]))
    call.main()
    ended = {part["part"]: part["ended"] for part in json.loads((tmp_path / "parts.json").read_text())}
    assert ended == {"hangs": "stopped after 0 s", "fails": "exit code 3"}
    assert "why" in (tmp_path / "log.txt").read_text()
    monkeypatch.setattr(call, "options", lambda: given(tmp_path, seconds=1.0))
    call.main()
    assert json.loads((tmp_path / "parts.json").read_text())[2] == {"part": "late", "ended": "no time left"}


def test_older_attention_with_borders_takes_the_switch_for_grouped_heads(bench, monkeypatch):
    import older_libraries
    from torch.nn.attention import varlen

    assert older_libraries.varlen_without_switch() == "varlen_attn takes enable_gqa"
    monkeypatch.setattr(varlen, "varlen_attn", lambda query, *, scale: (query, scale))
    assert "no enable_gqa" in older_libraries.varlen_without_switch()
    assert varlen.varlen_attn(1, scale=2, enable_gqa=True) == (1, 2)


# -- the report ---------------------------------------------------------------------------------------------------
def test_the_report_compares_like_with_like(bench, tmp_path):
    rows = [
        row(planned_bytes=3_000_000_000, share_of_floor=0.6), row(contender="trl-best", tokens_per_s=50.0),
        row(contender="trl-best", four_bit=True), row(model="llama-8b", tokens_per_s=9.0),
        row(contender="unsloth", tokens_per_s=80.0, packages={"torch": "2.11.0", "trl": "1.15.0"}),
    ]  # fmt: skip
    refused = [row(contender="trl-default", reason="OutOfMemoryError: 1 GiB")]
    (tmp_path / "step_cuda.json").write_text(json.dumps(SAID | {"rows": rows, "did_not_run": refused}))
    told = bench.report.report([tmp_path / "step_cuda.json"])
    assert "| dpo, prompts of 256 | bfloat16 | trl-best | 50 | 1 (0.1) | 2.00 |  |  | 2.00x |" in told
    assert "| dpo, prompts of 256 | bfloat16 | fast | 100 | 1 (0.1) | 2.00 | 3.00 | 60% |  |" in told
    assert "| dpo, prompts of 256, 4-bit | bfloat16 | trl-best | 100 | 1 (0.1) | 2.00 |  |  |  |" in told
    assert told.count("model llama-8b") == 1 and "pairs/s" not in told
    assert "unsloth ran with trl 1.15.0." in told
    assert "dpo, prompts of 256, bfloat16, trl-default: did not run: OutOfMemoryError: 1 GiB" in told


def test_a_row_measured_again_stays_with_those_it_is_compared_with(bench):
    """The file has it last; the fast step comes first of its group."""
    again = (("dpo", "trl-best"), ("sft", "fast"), ("dpo", "fast"))
    found = bench.report.in_order([row(workload=workload, contender=name) for workload, name in again])
    assert [(each["workload"], each["contender"]) for each in found] == [
        ("dpo", "fast"), ("dpo", "trl-best"), ("sft", "fast"),
    ]  # fmt: skip


def test_the_measured_file_is_read_and_drawn(bench):
    files = [ROOT / "benchmarks" / "step_cpu.json"]
    assert "| dpo | bfloat16 | trl-default | 138 | 0.35 |" in bench.report.report(files)
    drawing = bench.report.drawn(bench.report.read(files)[0]["rows"])
    assert drawing.startswith("<svg") and drawing.count("<rect") == 1 + 12 and ">629<" in drawing


def test_the_command_without_results_says_what_to_run(bench):
    with pytest.raises(SystemExit, match="run `make bench` first"):
        bench.report.report([])
