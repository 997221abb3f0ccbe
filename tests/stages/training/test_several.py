"""Two processes make what one makes: for each kind of training, and where rows, passes and processes do not divide."""

import shutil
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from pipeline.errors import ConfigError
from pipeline.registry import kind
from pipeline.schema import PeftConfig, Runtime
from stages.domain import Rehearsal
from stages.rewards.normalise import Normalise
from stages.rl.config import PpoTrain, Rollouts
from stages.training.divided import Passes

ONE = Runtime(threads=1, device="cpu", logging_steps=1)
TWO = replace(ONE, num_processes=2)
BY_ONE, BY_TWO = replace(TWO, micro_batch=1), replace(TWO, micro_batch=2)

# -- what each rank gets ------------------------------------------------------------------------------------------
SIZES = st.tuples(*(st.integers(1, high) for high in (40, 3, 4, 4)))  # rows, passes of a rank, rows of a pass, ranks


@given(SIZES)
def test_every_row_counts_once_and_all_ranks_make_the_same_number_of_passes(sizes):
    rows, each, size, ranks = sizes
    batch = each * size * ranks
    parts = [Passes(range(rows), batch, size, rank, ranks) for rank in range(ranks)]
    made = [list(part) for part in parts]
    assert {len(part) for part in parts} == set(map(len, made)) and len(set(map(len, made))) == 1
    found = []
    for part, passes in zip(parts, map(iter, made), strict=True):
        for step in range(part.steps):
            assert part.present(step) == part.present(step + part.steps)  # of the next epoch
            found += [(step, row) for ranks in part.present(step) for row in next(passes) if ranks[part.rank]]
    assert sorted(found) == [(row // batch, row) for row in range(rows)]


# -- two processes and one ----------------------------------------------------------------------------------------
def weights(folder):
    found = {path.relative_to(folder): load_file(path) for path in sorted(folder.rglob("model/**/*.safetensors"))}
    return {(str(path), name): tensor for path, tensors in found.items() for name, tensor in tensors.items()}


def difference(one, two):
    """The largest between two sets of weights, as a share of the largest weight."""
    assert one.keys() == two.keys() and one
    largest = max(float(weight.abs().max()) for weight in one.values())
    return max(float((one[name] - two[name]).abs().max()) for name in one) / largest


# AdamW divides by the size of a gradient, and makes much of the rounding of small ones.
PLAIN = {"optim": "sgd", "learning_rate": 1.0}
KNOWN = {**PLAIN, "precompute_ref_log_probs": True}
USUAL = Normalise(count=8, max_new_tokens=4)
CASES = {  # what is left over -> kind, data, settings
    "packed": ("sft", "chats", {"batch_size": 2}),
    "five rows, one at a time": ("sft", "chats", {"packing": False, "batch_size": 6, "runtime": BY_ONE}),
    "one row": ("sft", "few chats", {"packing": False, "batch_size": 4, "train": {**PLAIN, "num_train_epochs": 2}}),
    "documents": ("domain", "texts", {"batch_size": 6, "rehearsal": Rehearsal(0.0, 0.0), "runtime": BY_ONE}),
    "three pairs, two at a time": ("dpo", "pairs", {"batch_size": 8, "runtime": BY_TWO, "train": KNOWN}),
    "two answers": ("kto", "few pairs", {"batch_size": 8}),
    "four pairs": ("reward", "judged", {"batch_size": 10, "ensemble": 2, "normalise": USUAL, "runtime": BY_ONE}),
}  # fmt: skip


@pytest.fixture(scope="module")
def contexts(bench, base, rows, yes_data):
    """Case -> context of its stage in two processes."""
    data = {
        "chats": rows.chat(11), "few chats": rows.chat(5), "texts": rows.text(11), "pairs": rows.pairs(11),
        "few pairs": rows.pairs(5),
    }  # fmt: skip
    sets = {name: bench.data(name.replace(" ", "_"), found) for name, found in data.items()} | {"judged": yes_data}
    found = {}
    for name, (kind_name, of, settings) in CASES.items():
        config = bench.config(kind_name, **{"runtime": TWO, "train": PLAIN, **settings})
        found[name] = bench.context(kind_name, config, {"policy": base}, {"train": sets[of]})
    judging = bench.config("reward", normalise=USUAL, train=PLAIN)
    judge = bench.run(bench.context("reward", judging, {"policy": base}, {"train": yes_data}))
    config = kind("ppo").config(
        kind="ppo", max_length=64, batch_size=4, peft=PeftConfig(r=4, alpha=8.0), runtime=BY_ONE,
        reward={"terms": {"helpful": {"kind": "model", "input": "judge"}}}, rollout=Rollouts(max_new_tokens=6),
        train=PpoTrain(max_steps=2, minibatches=2, num_ppo_epochs=2, learning_rate=5e-3, rehearsal_coef=0.1),
    )  # fmt: skip
    sources = {"train": sets["pairs"], "rehearsed": sets["few chats"]}
    found["answers"] = bench.context("ppo", config, {"policy": base, "judge": judge.artifact}, sources)
    return found


@pytest.fixture(scope="module")
def twice(bench, contexts):
    """Case -> outcome of the stage in two processes; what they wrote is in the context's folder."""
    found = dict(zip(contexts, bench.together(list(contexts.values())), strict=True))
    assert {case: outcome.error for case, outcome in found.items() if outcome.error} == {}
    return found


@pytest.mark.parametrize("case", [*CASES, "answers"])
def test_two_processes_make_what_one_makes(bench, contexts, twice, case):
    ctx, two = contexts[case], twice[case]
    alone = replace(ctx.config, runtime=replace(ctx.config.runtime, num_processes=1))
    one = bench.run(bench.context(ctx.stage, alone, ctx.inputs, ctx.data))
    apart = difference(weights(one.artifact.path), weights(ctx.out))
    print(f"{ctx.config.kind}, {case}: weights {apart:.1e}")
    assert apart < (1e-3 if case == "answers" else 1e-5)  # ppo has AdamW alone
    told = {name: value for name, value in one.metrics.items() if not name.endswith("_per_second")}
    assert {name: two.metrics[name] for name in told} == pytest.approx(told, rel=1e-3, abs=1e-5)
    assert (ctx.out / "history.jsonl").read_text().count("\n") == one.metrics["steps"]


def test_divided_weights_make_the_same_adapter(bench, contexts, twice):
    """FSDP2 through the trainer, whatever the step; on a machine without GPUs accelerate has to be told that it may."""
    shared = replace(TWO, strategy="fsdp2")
    cases = [replace(contexts["packed"].config, runtime=shared, step=step) for step in ("fast", "trl")]
    made = [bench.context("sft", config, contexts["packed"].inputs, contexts["packed"].data) for config in cases]
    for ctx, outcome in zip(made, bench.together(made, PRETEND_GPUS="1"), strict=True):
        assert outcome.error is None, outcome.error
        print(f"fsdp2, {ctx.config.step}: {difference(weights(contexts['packed'].out), weights(ctx.out)):.1e}")
        assert difference(weights(contexts["packed"].out), weights(ctx.out)) < 1e-4
        assert outcome.metrics["final_loss"] == pytest.approx(twice["packed"].metrics["final_loss"], rel=1e-4)


def test_what_was_killed_goes_on_as_if_nothing_had_happened(bench, contexts, twice):
    """The stage is killed in its second step; of the other one the last checkpoint is taken away."""
    killed = replace(contexts["packed"], out=bench.folder("killed"), ckpt=bench.folder("ckpt-killed"))
    (outcome,) = bench.together([killed], KILLED_AT="checkpoint-2")
    assert outcome.exit_code == 5 and "of 2 ended without a word" in outcome.error
    short = replace(contexts["answers"], out=bench.folder("shortened"), ckpt=bench.folder("ckpt-shortened"))
    shutil.copytree(contexts["answers"].ckpt, short.ckpt, dirs_exist_ok=True)
    shutil.rmtree(short.ckpt / "checkpoint-2")
    again = [replace(killed, out=bench.folder("again")), short]
    for case, ctx, outcome in zip(("packed", "answers"), again, bench.together(again), strict=True):
        assert outcome.sections["training"]["start_step"] == (2 if case == "packed" else 1)
        assert difference(weights(contexts[case].out), weights(ctx.out)) == 0.0
        assert (ctx.out / "history.jsonl").read_text() == (contexts[case].out / "history.jsonl").read_text()


def test_memory_is_that_of_the_largest_process(twice):
    sections = twice["packed"].sections
    assert sections["peak_bytes"] == max(sections["processes"]["peaks"]) > 2**20
    assert sections["processes"]["num_processes"] == 2 and len(sections["processes"]["peaks"]) == 2


def test_the_probes_of_a_single_process_are_those_of_the_first(twice):
    assert all(probe["passed"] for case in twice.values() for probe in case.sections["probes"])


# -- what is refused ----------------------------------------------------------------------------------------------
def refused(bench, kind_name, **settings):
    config = bench.config(kind_name, data={"train": "d"}, **{"runtime": TWO, "train": PLAIN, **settings})
    with pytest.raises(ConfigError) as error:
        kind(kind_name).stage().validate(config)
    return str(error.value)


@pytest.mark.parametrize(
    ("kind_name", "settings", "words"),
    [
        ("sft", {"batch_size": 5}, "batch_size=5 is not a multiple of runtime.num_processes=2"),
        ("sft", {"batch_size": 6, "runtime": replace(TWO, micro_batch=2)}, "2 times runtime.micro_batch=2"),
        ("sft", {"train": {"dataloader_drop_last": True}}, "train.dataloader_drop_last: with runtime.num_processes=2"),
        ("sft", {"train": {"train_sampling_strategy": "group_by_length"}}, "train.train_sampling_strategy: with"),
        ("dpo", {"train": {"loss_type": ["aot"]}}, "so a batch is one pass: set runtime.num_processes=1"),
        ("kto", {"runtime": BY_ONE}, "set runtime.micro_batch=2 or 0"),
        ("grpo", {"reward": {"terms": {"short": {"kind": "length", "target": 4}}},
                  "train": {"num_generations": 2, "max_completion_length": 4}}, "grpo runs in one process"),
        ("sft", {"runtime": replace(TWO, strategy="deepspeed")}, "needs the package deepspeed"),
        ("sft", {"step": "trl", "runtime": replace(TWO, strategy="fsdp2")}, "divides a model over GPUs"),
        ("reward", {"runtime": replace(TWO, strategy="fsdp2")}, "this stage knows ddp, deepspeed"),
    ],
)  # fmt: skip
def test_what_two_processes_cannot_do_is_refused(bench, kind_name, settings, words):
    assert words in refused(bench, kind_name, **settings)


def test_weights_of_4_bits_are_not_divided(bench, monkeypatch):
    monkeypatch.setattr("stages.training.several.resolve_device", lambda device: "cuda")
    four_bits = PeftConfig(method="qlora")
    assert "use lora or ddp" in refused(bench, "sft", peft=four_bits, runtime=replace(TWO, strategy="fsdp2"))
