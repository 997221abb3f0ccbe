"""The memory plan: what it decides, that it never touches the batch, and that its arithmetic is near the truth."""

from dataclasses import replace

import pytest

from pipeline.errors import StageFailed
from stages.training import memory
from stages.training.memory import GIB, Plan, Shape

SMALL = Shape(layers=30, hidden=576, intermediate=1536, heads=9, vocabulary=49152, trained=5_000_000,
              weights=270_000_000, size=2)  # fmt: skip


def plan(gib, **changed):
    return memory.plan(SMALL, **{"tokens": 2048, "batch": 8, "memory": int(gib * GIB), "device": "cuda", **changed})


def test_where_everything_fits_nothing_is_recomputed_and_nothing_split():
    found = plan(140)
    assert (found.micro_batch, found.checkpointing) == (8, False)


def test_less_memory_splits_the_batch_before_it_recomputes():
    sizes = [plan(gib) for gib in (40, 20, 12, 8)]
    assert [made.micro_batch for made in sizes] == sorted((made.micro_batch for made in sizes), reverse=True)
    assert not any(made.checkpointing for made in sizes) and sizes[-1].micro_batch < 8


def test_recomputing_is_the_last_resort():
    found = plan(4)
    assert found.checkpointing and found.per_row < plan(140).per_row / 5


@pytest.mark.parametrize("batch", [1, 3, 6, 7, 12])
def test_the_batch_is_always_divided_without_a_rest(batch):
    for gib in (5, 7, 9, 12, 20, 40):
        assert batch % plan(gib, batch=batch).micro_batch == 0


def test_what_does_not_fit_at_all_is_refused_with_the_arithmetic():
    with pytest.raises(StageFailed, match=r"2048 tokens needs about \d+\.\d GiB, and 1\.6 GiB .* max_length"):
        plan(2)


def test_a_base_of_4_bits_is_named_as_a_way_out_only_where_it_would_fit():
    whole = replace(SMALL, weights=4 * GIB, linear=3 * GIB)
    for gib, named in ((6, True), (2, False)):
        with pytest.raises(StageFailed) as error:
            memory.plan(whole, tokens=512, batch=8, memory=gib * GIB, device="cuda")
        assert ("peft.method=qlora" in str(error.value)) is named
    quantized = replace(whole, linear=0)  # it has 4 bits already
    with pytest.raises(StageFailed, match=r"lower max_length, or set runtime\.micro_batch"):
        memory.plan(quantized, tokens=512, batch=8, memory=6 * GIB, device="cuda")


def test_a_base_of_4_bits_counts_what_is_kept_dense(base):
    from stages.models.quantization import keep_dense, load_quantized

    model = load_quantized(base, "cpu", None)
    before = memory.shape_of(model, rank=4)
    keep_dense(model, 1.0)
    dense = sum(layer.kept.nbytes for layer in model.modules() if getattr(layer, "kept", None) is not None)
    assert dense and memory.shape_of(model, rank=4).weights == before.weights + dense
    assert before.linear == 0


def test_the_plan_says_how_the_model_is_computed():
    assert "weights float32, attention of the fast step: flash by families" in str(
        memory.plan(replace(SMALL, size=4), tokens=64, batch=1, memory=8 * GIB, device="cpu")
    )
    assert plan(140).attention == "flash with ragged borders"
    assert plan(140, device="cpu", tokens=64).attention == "dense up to 1024 tokens, then flash"


def test_what_was_asked_for_stays():
    assert plan(5, asked_rows=8).micro_batch == 8
    assert plan(140, asked_checkpointing=True).checkpointing
    assert not plan(5, asked_rows=2, asked_checkpointing=False).checkpointing


def test_the_plan_says_its_arithmetic():
    made = Plan(2, True, per_row=GIB // 2, fixed=3 * GIB, room=10 * GIB)
    assert str(made) == (
        "2 rows in one pass, activations recomputed: 3.00 GiB + 2 x 0.50 GiB of 10.0 GiB; weights as stored, "
        "attention of the fast step: sdpa"
    )


def test_a_resumed_training_keeps_the_plan_it_began_with(tmp_path):
    file = tmp_path / "ckpt" / "plan.json"
    first = memory.remembered(file, plan(140))
    assert memory.remembered(file, plan(5)) == first


def test_a_kill_while_the_plan_is_written_leaves_none(tmp_path):
    file = tmp_path / "plan.json"
    file.with_suffix(".part").write_text('{"micro_b')
    assert memory.remembered(file, plan(5)) == memory.remembered(file, plan(140)) == plan(5)


def test_the_shape_counts_an_adapter_on_every_linear_layer_but_the_head(sft):
    """Against the adapter that a stage has trained with the same rank."""
    from safetensors.torch import load_file

    from stages.models.sources import toy

    trained = load_file(sft.artifact.path / "model" / "adapter" / "adapter_model.safetensors")
    shape = memory.shape_of(toy()[0], rank=sft.ctx.config.peft.r)
    assert shape.trained == sum(tensor.numel() for tensor in trained.values())


def test_stages_record_their_plan(sft, dpo):
    for stage in (sft, dpo):
        recorded = Plan(**stage.sections["memory"])
        assert recorded.micro_batch == stage.ctx.config.batch_size and not recorded.checkpointing


def test_the_estimate_is_near_what_autograd_keeps():
    """Bytes saved for the backward pass of a fast step, counted by autograd's own hook."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    from stages.kernels import step

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64, intermediate_size=192, num_hidden_layers=4, num_attention_heads=4, vocab_size=128
    )
    model = LlamaForCausalLM(config).requires_grad_(False)
    add_fused_lm_head(model)
    net = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    step.install(model, "fast")
    own = {p.untyped_storage().data_ptr() for p in net.parameters()}
    kept: dict[int, int] = {}

    def count(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.randint(1, 128, (1, 256))
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        held = net(input_ids=ids, labels=ids, fused_lm_head=True).loss
    estimate = memory.activations(memory.shape_of(model, 4), 255, False, "cpu")
    assert held.requires_grad and 0.9 < sum(kept.values()) / estimate < 1.1
