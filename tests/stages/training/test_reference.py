"""Reference log-probabilities kept between stages: what shares them, what does not, and what survives a crash."""

import json
import multiprocessing
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset

from pipeline.schema import PeftConfig
from stages.models.chain import AdapterRef, Chain, Policy
from stages.training import reference
from stages.training.reference import cache_file, with_reference

ROWS = [{"prompt_ids": [i], "chosen_ids": [i, 1], "rejected_ids": [i, 2]} for i in range(5)]


class Trainer:
    """As much of TRL's as is used; a pair's numbers follow from its prompt."""

    def __init__(self):
        self.model, self.args = torch.nn.Dropout(), SimpleNamespace(device="cpu")
        self.passes: list[list[int]] = []

    def data_collator(self, rows):
        return {"prompt": torch.tensor([row["prompt_ids"][0] for row in rows])}

    def compute_ref_log_probs(self, model, batch):
        assert not model.training
        self.passes.append(batch["prompt"].tolist())
        return -0.1 - batch["prompt"].float(), -0.3 - batch["prompt"].float()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "cache" / "reference" / "key.jsonl"


def compute(file, rows=ROWS, batch_size=2):
    trainer = Trainer()
    made = with_reference(trainer, Dataset.from_list(rows), batch_size, file)
    assert trainer.model.training  # as it was
    return made, trainer.passes


# -- what is computed ---------------------------------------------------------------------------------------------
def test_the_second_call_computes_nothing(file):
    first, passes = compute(file)
    assert passes == [[0, 1], [2, 3], [4]]
    second, passes = compute(file)
    assert passes == [] and second.to_list() == first.to_list()
    assert torch.equal(torch.tensor(second["ref_chosen_logps"][:]), -0.1 - torch.arange(5.0))  # every bit of float32


def test_only_pairs_that_are_not_known_are_computed(file):
    compute(file, ROWS[:3])
    made, passes = compute(file, ROWS[::-1])
    assert passes == [[4, 3]]
    assert made["ref_rejected_logps"][:] == pytest.approx([-4.3, -3.3, -2.3, -1.3, -0.3])


def test_a_torn_last_line_is_computed_again_and_harms_no_other(file):
    compute(file)
    whole = file.read_bytes()
    for cut in (1, 2, 9, 30):
        file.write_bytes(whole[: len(whole) - cut])
        made, passes = compute(file)
        assert passes == ([] if cut == 1 else [[4]])  # the line end alone is no loss
        assert made["ref_chosen_logps"][4] == pytest.approx(-4.1)
        assert compute(file)[1] == []


def test_the_same_answers_to_another_prompt_are_another_pair(file):
    rows = [{"prompt_ids": [i], "chosen_ids": [1], "rejected_ids": [2]} for i in (3, 4)]
    compute(file, rows[:1])
    made, passes = compute(file, rows)
    assert passes == [[4]] and made["ref_chosen_logps"][:] == pytest.approx([-3.1, -4.1])


def write(file, start):
    for i in range(start, start + 40):
        reference._append(file, {f"{i}": (float(i), -float(i))})


def test_two_writers_lose_no_lines(file):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write, args=(file, start)) for start in (0, 40)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert reference._read(file) == {f"{i}": (float(i), -float(i)) for i in range(80)}


# -- what shares a file -------------------------------------------------------------------------------------------
def policy(**changes):
    adapter = AdapterRef("sft", "sft-1", "digest", "lora", 4)
    chain = Chain({"artifact": "base-1", "digest": "weights", "source": "toy"}, [adapter])
    given = {
        "model": SimpleNamespace(dtype=torch.float32),
        "tokenizer": None,
        "chain": chain,
        "device": "cpu",
        "scales": (4.0,),
    }
    return Policy(**{**given, **changes})


def other_chain(**changes):
    chain = policy().chain
    return replace(chain, adapters=[replace(chain.adapters[0], **changes)])


SAID = {"policy": policy(), "step": "fast (14 fused low-rank layers)", "ld_alpha": None}


@pytest.mark.parametrize(
    "change",
    [
        {"policy": policy(chain=other_chain(digest="another"))},
        {"policy": policy(chain=replace(policy().chain, adapters=[]))},
        {"policy": policy(scales=(2.0,))},
        {"policy": policy(chain=replace(policy().chain, base={**policy().chain.base, "digest": "another"}))},
        {"policy": policy(model=SimpleNamespace(dtype=torch.bfloat16))},
        {"policy": policy(model=SimpleNamespace(dtype=torch.float32, triton_kernels=True))},
        {"policy": policy(quantized="0123")},
        {"policy": policy(device="cuda")},
        {"step": "trl (asked for)"},
        {"ld_alpha": 0.3},
    ],
    ids=["adapter", "no adapter", "scale", "base", "dtype", "kernels", "4 bits", "device", "step", "ld_alpha"],
)
def test_what_changes_the_numbers_has_a_file_of_its_own(change, tmp_path):
    assert cache_file(tmp_path, **SAID) != cache_file(tmp_path, **{**SAID, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"policy": policy(chain=other_chain(artifact="sft-2", stage="tuned"))},
        {"step": "fast (4 fused low-rank layers, 1 not: a reason)"},
    ],
    ids=["names", "the new adapter's layers"],
)
def test_what_does_not_change_the_numbers_shares_the_file(change, tmp_path):
    assert cache_file(tmp_path, **SAID) == cache_file(tmp_path, **{**SAID, **change})


# -- in the stage -------------------------------------------------------------------------------------------------
@pytest.fixture
def stage(bench, sft, pair_data, monkeypatch):
    """Runs `dpo` for one step -> how many pairs were computed; all runs share one cache."""
    from trl import DPOTrainer

    computed, real = [], DPOTrainer.compute_ref_log_probs

    def count(self, model, inputs):
        computed.append(len(inputs["input_ids"]) // 2)
        return real(self, model, inputs)

    monkeypatch.setattr(DPOTrainer, "compute_ref_log_probs", count)

    def run(policy=sft.artifact, **settings):
        computed.clear()
        train = {"precompute_ref_log_probs": True, "max_steps": 1, **settings.pop("train", {})}
        made = bench.train("dpo", policy, {"train": pair_data}, train=train, **settings)
        return sum(computed), made

    return run


def test_a_sweep_computes_the_reference_once(stage, bench):
    """Another seed, rank or learning rate trains another adapter against the same reference."""
    first, made = stage()
    assert first == made.sections["data"]["rows_kept"] > 0
    other = PeftConfig(r=2, alpha=4.0, target_modules=["q_proj"])
    assert stage(seed=7, peft=other, train={"learning_rate": 1e-4, "beta": 0.3})[0] == 0
    assert stage(train={"ld_alpha": 0.5})[0] == first


def test_the_fast_step_s_numbers_are_trl_s(stage, bench, base):
    cache = bench.root / "cache" / "reference"
    shutil.rmtree(cache, ignore_errors=True)  # another test may have asked the same of the same model
    known, found = set(), []
    for step in ("fast", "trl"):
        stage(base, step=step)
        (new,) = set(cache.glob("*.jsonl")) - known
        known.add(new)
        lines = [json.loads(line) for line in new.read_text().splitlines() if line]
        found.append({key: torch.tensor(values) for key, *values in lines})
    assert found[0].keys() == found[1].keys()
    for key in found[0]:
        torch.testing.assert_close(found[0][key], found[1][key], rtol=1e-5, atol=1e-4)
