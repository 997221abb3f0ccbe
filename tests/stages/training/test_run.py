"""From an input policy to a published adapter: checkpoints, resuming, failures, and the bytes that come out."""

import json
import shutil
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file

from pipeline.errors import StageFailed
from pipeline.schema import Runtime, Tracker
from stages.models.chain import Chain, file_digest
from stages.training import run


def weights(made):
    return file_digest(made.artifact.path / "model" / "adapter" / "adapter_model.safetensors")


def files(made):
    """Every published file but the manifest, with its digest; the artifact's own name is not content."""
    found = {}
    for path in sorted(made.artifact.path.rglob("*")):
        if path.is_file() and path.name != "manifest.json":
            text = path.read_bytes().replace(made.artifact.id.encode(), b"ID")
            found[str(path.relative_to(made.artifact.path))] = text
    return found


@pytest.fixture
def stage(bench, base, chat_data):
    """Runs a short `sft`, from the checkpoints in `ckpt` if given."""

    def make(ckpt=None, **settings):
        runtime = Runtime(threads=1, device="cpu", save_steps=2, logging_steps=1)
        config = bench.config("sft", **{"runtime": runtime, "train": {"max_steps": 6}, **settings})
        return bench.run(bench.context("sft", config, {"policy": base}, {"train": chat_data}, ckpt))

    return make


def test_every_logged_number_reaches_the_tracker(bench, base, chat_data, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    ctx = bench.context("sft", bench.config("sft", train={"max_steps": 3}), {"policy": base}, {"train": chat_data})
    ctx.tracker, ctx.tracker_dir = Tracker(kind="tensorboard"), tmp_path
    made = bench.run(ctx)
    kept = EventAccumulator(str(tmp_path / made.sections["tracking"]["run"])).Reload()
    history = [json.loads(line) for line in (made.artifact.path / "history.jsonl").read_text().splitlines()]
    for name in ("loss", "learning_rate", "grad_norm"):
        assert [event.step for event in kept.Scalars(name)] == [1, 2, 3]
        assert [event.value for event in kept.Scalars(name)] == pytest.approx([entry[name] for entry in history])


def test_what_is_published(stage, base):
    made = stage()
    assert set(files(made)) == {
        "history.jsonl", "model/model.json", "model/adapter/adapter_config.json",
        "model/adapter/adapter_model.safetensors",
    }  # fmt: skip
    chain = Chain.read(made.artifact)
    assert [ref.artifact for ref in chain.adapters] == [made.artifact.id] and chain.base["artifact"] == base.id
    assert (chain.adapters[0].stage, chain.adapters[0].method, chain.adapters[0].r) == ("sft", "lora", 4)
    history = [json.loads(line) for line in (made.artifact.path / "history.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in history] == [1, 2, 3, 4, 5, 6]
    assert all({"learning_rate", "grad_norm", "loss"} <= entry.keys() for entry in history)
    assert made.metrics["steps"] == 6 and made.metrics["final_loss"] < made.metrics["first_loss"]
    assert made.sections["training"] == {
        "start_step": 0, "end_step": 6, "max_steps": 6,
        "step": "fast (fused: 14 low-rank layers, 2 QKVs, 2 MLPs, 5 norms)",
    }  # fmt: skip
    assert made.sections["timing"].keys() == {"load_seconds", "train_seconds"}


def test_the_same_config_gives_the_same_bytes_and_another_seed_does_not(stage):
    first, second = stage(), stage()
    assert files(first) == files(second)
    other = stage(seed=43)
    assert weights(other) != weights(first)
    drawn = [load_file(m.artifact.path / "model" / "adapter" / "adapter_model.safetensors") for m in (first, other)]
    for name in [name for name in drawn[0] if "lora_A" in name]:  # a few steps move these far less than a new draw
        assert (drawn[0][name] - drawn[1][name]).abs().mean() > 0.5 * drawn[0][name].abs().mean()


def test_both_steps_train_the_same_adapter_up_to_rounding(stage):
    fast, plain = stage(), stage(step="trl")
    assert plain.sections["training"]["step"] == "trl (asked for)"
    drawn = [load_file(m.artifact.path / "model" / "adapter" / "adapter_model.safetensors") for m in (fast, plain)]
    for name in drawn[0]:
        assert (drawn[0][name] - drawn[1][name]).norm() < 1e-3 * drawn[1][name].norm()


@pytest.mark.parametrize("torn", [None, "no state", "empty state", "half a state"])
def test_resuming_gives_the_bytes_of_an_undisturbed_run(stage, tmp_path, torn):
    whole = stage()
    shutil.copytree(whole.ctx.ckpt, tmp_path / "ckpt")
    shutil.rmtree(tmp_path / "ckpt" / "checkpoint-6")
    if torn:  # killed while checkpoint 6 was being written: its trainer state comes last
        (tmp_path / "ckpt" / "checkpoint-6").mkdir()
        (tmp_path / "ckpt" / "checkpoint-6" / "optimizer.pt").write_bytes(b"half")
        if torn != "no state":
            text = "" if torn == "empty state" else '{"epoch": 1.0, "global_'
            (tmp_path / "ckpt" / "checkpoint-6" / "trainer_state.json").write_text(text)
    resumed = stage(tmp_path / "ckpt")
    assert resumed.sections["training"]["start_step"] == 4 and resumed.metrics["steps"] == 6
    assert files(resumed) == files(whole)


def test_newest_complete_checkpoint_counts(tmp_path):
    assert run.newest_checkpoint(tmp_path) is None
    for step, complete in ((2, True), (10, True), (9, True), (12, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if complete:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    assert run.newest_checkpoint(tmp_path).name == "checkpoint-10"


def test_a_diverged_run_is_a_failure_and_publishes_no_model(bench, base, chat_data, monkeypatch):
    config = bench.config("sft", train={"max_steps": 2})
    ctx = bench.context("sft", config, {"policy": base}, {"train": chat_data})
    real = run.step.install

    def broken(model, *names):
        said = real(model, *names)
        inner = model.forward

        def forward(*args, **kwargs):
            out = inner(*args, **kwargs)
            if kwargs.get("fused_lm_head") and model.training:
                out.log_probs = out.log_probs * float("nan")
            return out

        model.forward = forward
        return said

    monkeypatch.setattr(run.step, "install", broken)
    with pytest.raises(StageFailed, match=r"NaN or infinite by step 1; lower train\.learning_rate"):
        bench.run(ctx)
    assert not (ctx.out / "model").exists()


def test_triton_kernels_are_asked_for_where_the_config_says_so(bench, base, chat_data, monkeypatch):
    """What they compute is in tests/stages/kernels/test_passes.py, with where they are refused."""
    asked, real = [], run.step.install
    monkeypatch.setattr(run.step, "install", lambda model, *how: asked.append(how) or real(model, how[0]))
    config = bench.config("sft", train={"max_steps": 2}, runtime=Runtime(device="cpu", kernels="triton"))
    bench.run(bench.context("sft", config, {"policy": base}, {"train": chat_data}))
    assert set(asked) == {("fast", "triton")}


def test_threads_are_set_for_this_process(bench, base, monkeypatch):
    import torch

    seen = []
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    for threads in (0, 3):
        config = bench.config("sft", runtime=Runtime(threads=threads, device="cpu"))
        run.open_policy(bench.context("sft", config, {"policy": base}, {}))
    assert seen == [3]


def test_logging_steps_set_the_distance_of_the_loss_curve(stage):
    made = stage(runtime=Runtime(threads=1, device="cpu", logging_steps=3))
    history = [json.loads(line) for line in (made.artifact.path / "history.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in history] == [3, 6]


def test_save_steps_set_the_distance_of_checkpoints_and_two_are_kept(stage):
    made = stage(runtime=Runtime(threads=1, device="cpu", save_steps=2))
    assert sorted(path.name for path in made.ctx.ckpt.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-6"]


@pytest.mark.parametrize("pack", [True, False])
def test_sequences_hold_every_token_once(bench, base, chat_data, tokenizer, pack):
    from stages.data import artifact
    from stages.models.chat import chat_example

    examples = [chat_example(tokenizer, row["messages"], 64) for row in artifact.rows(chat_data)]
    ctx = SimpleNamespace(config=bench.config("sft"))
    dataset = run.packed(ctx, examples) if pack else run.one_each(examples)
    assert sorted(i for row in dataset["input_ids"] for i in row) == sorted(i for e in examples for i in e.ids)
    assert all(len(row) <= 64 for row in dataset["input_ids"])
    if pack:
        assert [sum(lengths) for lengths in dataset["seq_lengths"]] == [len(row) for row in dataset["input_ids"]]
        assert len(dataset) < len(examples)
    else:
        assert dataset["labels"] == [e.labels for e in examples]
