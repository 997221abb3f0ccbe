"""Families in one row: what a token sees, and that attention by it is attention on each sequence alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.kernels.tree import (
    Family,
    Tree,
    _dense,
    _family_attention,
    _flash,
    _ragged_attention,
    attention,
    no_mask,
)

CPU = torch.device("cpu")
quick = settings(max_examples=25, derandomize=True, deadline=None)

lengths = st.lists(st.tuples(st.integers(1, 6), st.lists(st.integers(1, 5), max_size=3)), min_size=1, max_size=3)
windows = st.one_of(st.none(), st.integers(1, 8))


def tree_of(shape, device=CPU):
    """A tree from (prompt, answers) of each family."""
    families, start = [], 0
    for prompt, answers in shape:
        families.append(Family(start, prompt, tuple(answers)))
        start = families[-1].stop
    return Tree(tuple(families), device)


def tokens(family):
    """(branch, position) of each token of a family; branch 0 is the prompt."""
    found = [(0, position) for position in range(family.prompt)]
    for branch, length in enumerate(family.answers, 1):
        found += [(branch, family.prompt + i) for i in range(length)]
    return found


def sequences(family):
    """The places in the row of the prompt with each answer, and of the prompt alone if it has none."""
    prompt = list(range(family.start, family.start + family.prompt))
    found, begin = [], family.start + family.prompt
    for length in family.answers:
        found.append(prompt + list(range(begin, begin + length)))
        begin += length
    return found or [prompt]


def heads(total, query_heads=4, key_heads=2, width=8, seed=0, **kind):
    """Queries (1, H, T, D), keys and values (1, G, T, D)."""
    torch.manual_seed(seed)
    return [torch.randn(1, n, total, width, **kind) for n in (query_heads, key_heads, key_heads)]


def alone(q, k, v, window, scale=None):
    """The textbook's causal attention of one sequence; q (H, n, D), k and v (G, m, D), m >= n: aligned at the end."""
    n, m = q.shape[1], k.shape[1]
    k, v = (x.repeat_interleave(len(q) // len(x), dim=0) for x in (k, v))
    behind = (torch.arange(n)[:, None] + m - n) - torch.arange(m)[None, :]
    seen = (behind >= 0) & (behind < (window or m + 1))
    scores = (q @ k.transpose(1, 2)) * (q.shape[-1] ** -0.5 if scale is None else scale)
    return scores.masked_fill(~seen, float("-inf")).softmax(-1) @ v


# -- what a token sees --------------------------------------------------------------------------------------------
@quick
@given(shape=lengths, window=windows)
def test_a_token_sees_its_prompt_and_its_own_answer_before_it(shape, window):
    for family in tree_of(shape).families:
        places = tokens(family)
        expected = [
            [b2 in (0, b1) and 0 <= p1 - p2 < (window or 100) for b2, p2 in places] for b1, p1 in places
        ]  # fmt: skip
        found = tree_of(shape).visible(family, window)
        if found is None:  # plain causal attention says the same
            found = torch.ones(len(places), len(places)).tril()
        assert found.bool().tolist() == expected


@quick
@given(shape=lengths)
def test_answers_go_on_where_their_prompt_ends(shape):
    expected = [position for family in tree_of(shape).families for _, position in tokens(family)]
    assert tree_of(shape).positions().tolist() == [expected]


def test_masks_are_made_once():
    tree = tree_of([(2, [2, 1])])
    (family,) = tree.families
    assert tree.visible(family, None) is tree.visible(family, None)
    assert tree.visible(family, None) is not tree.visible(family, 2)
    assert tree.ragged() is tree.ragged()


# -- attention ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kernel", [_flash, _dense])
@quick
@given(shape=lengths, window=windows, grouped=st.booleans(), scale=st.sampled_from([None, 0.7]))
def test_attention_in_a_family_is_attention_on_each_sequence_alone(kernel, shape, window, grouped, scale):
    tree = tree_of(shape)
    q, k, v = heads(tree.families[-1].stop, key_heads=2 if grouped else 4)
    for family in tree.families:
        inside = slice(family.start, family.stop)
        found = kernel(*(x[:, :, inside] for x in (q, k, v)), tree.visible(family, window), scale)[0]
        for places in sequences(family):
            expected = alone(*(x[0][:, places] for x in (q, k, v)), window, scale)
            own = [place - family.start for place in places]
            torch.testing.assert_close(found[:, own], expected, atol=1e-5, rtol=1e-5)


def outcome(kernel, tree, window, grouped):
    """Output of attention over a tree, and gradients of queries, keys and values."""
    inputs = [x.requires_grad_() for x in heads(tree.families[-1].stop, key_heads=2 if grouped else 4)]
    out = kernel(*inputs, tree, 0.3, window)
    (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
    return [out.detach(), *(x.grad for x in inputs)]


@quick
@given(shape=lengths, window=windows, grouped=st.booleans())
def test_a_prompt_may_be_apart_from_its_answers(shape, window, grouped):
    """Output and gradients of two calls are those of one, and no query of a prompt meets an answer's key."""
    from stages.kernels import tree as module

    tree = tree_of(shape)
    met, results = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_flash", lambda q, k, *rest: met.append((q.shape[2], k.shape[2])) or _flash(q, k, *rest))
        for border in (1000, 1):
            patch.setattr(module, "APART_FROM", border)
            results.append(outcome(_family_attention, tree, window, grouped))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    wanted = [(family.stop - family.start,) * 2 for family in tree.families]
    for family in tree.families:
        whole = family.stop - family.start
        wanted += [(family.prompt,) * 2, (whole - family.prompt, whole)] if family.answers else [(whole, whole)]
    assert met == wanted


def bordered(query, key, value, queries_at, keys_at, longest_q, longest_k, *, scale, enable_gqa, window_size):
    """A plain reading of `varlen_attn`: queries meet the keys between the same borders, aligned at the end."""
    (left, right), parts = window_size, []
    assert right == 0, "a query that sees what comes after it"
    spans_q, spans_k = (list(zip(at[:-1].tolist(), at[1:].tolist(), strict=True)) for at in (queries_at, keys_at))
    for (q0, q1), (k0, k1) in zip(spans_q, spans_k, strict=True):
        assert q1 - q0 <= longest_q and k1 - k0 <= longest_k
        q, k, v = (x.transpose(0, 1) for x in (query[q0:q1], key[k0:k1], value[k0:k1]))
        assert enable_gqa == (len(q) != len(k))
        parts.append(alone(q, k, v, None if left < 0 else left + 1, scale).transpose(0, 1))
    return torch.cat(parts)


@quick
@given(shape=lengths, window=windows, grouped=st.booleans(), shared=st.booleans())
def test_ragged_attention_is_the_same_attention(shape, window, grouped, shared):
    """Output and gradients; where no prompt is shared, keys stay where they are."""
    import torch.nn.attention.varlen

    tree = tree_of(shape if shared else [(prompt + sum(answers), []) for prompt, answers in shape])
    assert (tree.ragged()[0] is None) == (not any(family.answers for family in tree.families))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.attention.varlen, "varlen_attn", bordered)
        results = [outcome(kernel, tree, window, grouped) for kernel in (_ragged_attention, _family_attention)]
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("first", [0, 30])
@pytest.mark.parametrize("size", [2, 3])
def test_in_16_bits_sharp_scores_are_as_near_the_truth_as_the_flash_kernel_s(size, first):
    """Of all queries of a family, and of its answers' alone.

    Scores of 30 and more: stored as they are in 16 bits, the answer would be five times as far off.
    """
    (family,) = (tree := tree_of([(30, [20, 9])])).families
    inputs = [x.mul(size if number < 2 else 1).bfloat16() for number, x in enumerate(heads(59, width=64))]
    gaps = []
    for kernel, dtype in ((_flash, torch.float32), (_flash, torch.bfloat16), (_dense, torch.bfloat16)):
        given = [x.to(dtype, copy=True).requires_grad_() for x in inputs]
        q, mask = given[0][:, :, first:], tree.visible(family, None)[first:]
        out = kernel(q, *given[1:], mask, None)
        out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).bfloat16().to(dtype))
        gaps.append([out.detach().float(), *(x.grad.float() for x in given)])
    truth, flash, dense = gaps
    for ours, theirs, exact in zip(dense, flash, truth, strict=True):
        far, near = (float((found - exact).norm() / exact.norm()) for found in (ours, theirs))
        assert far <= 1.5 * near


def test_in_16_bits_the_cpu_takes_the_dense_kernel_up_to_a_length(monkeypatch):
    from stages.kernels import tree as module

    taken = []
    for name in ("_dense", "_flash"):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, name=name, real=real: taken.append(name) or real(*args))
    monkeypatch.setattr(module, "DENSE_UP_TO", 5)
    tree = tree_of([(2, [2]), (3, [2, 2])])
    out = _family_attention(*heads(11, dtype=torch.bfloat16), tree, None, None)
    assert taken == ["_dense", "_flash"] and out.shape == (1, 11, 4, 8) and out.dtype == torch.bfloat16


def test_without_a_tree_it_is_sdpa():
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    class Layer(torch.nn.Module):
        is_causal, num_key_value_groups = True, 2

    q, k, v = heads(7)
    found, _ = attention(Layer(), q, k, v, None, scaling=0.3, dropout=0.0)
    expected, _ = sdpa_attention_forward(Layer(), q, k, v, None, scaling=0.3, dropout=0.0)
    assert torch.equal(found, expected) and no_mask(CPU).shape == (1, 1, 1, 1)


# -- on a GPU -----------------------------------------------------------------------------------------------------
SHAPE = [(40, [7, 19, 1]), (3, []), (1, [60, 5]), (130, [33])]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("window", [None, 1, 16, 64])
@pytest.mark.parametrize("key_heads", [4, 2, 1])
def test_ragged_attention_on_a_gpu_equals_attention_by_families(window, key_heads):
    """Queries and keys of unequal length, grouped heads, windows; output and gradients, in bfloat16."""
    tree = tree_of(SHAPE, torch.device("cuda"))
    total = tree.families[-1].stop
    found, expected = [], []
    for kernel, results, dtype in (
        (_ragged_attention, found, torch.bfloat16), (_family_attention, expected, torch.float32)
    ):  # fmt: skip
        inputs = [x.bfloat16().cuda().to(dtype).requires_grad_() for x in heads(total, key_heads=key_heads, width=64)]
        out = kernel(*inputs, tree, 0.2, window)
        torch.manual_seed(5)
        (out.float() * torch.randn(out.shape, device="cuda")).sum().backward()
        results += [out.detach().float(), *(x.grad.float() for x in inputs)]
    for ours, truth in zip(found, expected, strict=True):
        assert float((ours - truth).norm() / truth.norm()) < 0.02


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_float32_on_a_gpu_takes_no_flash_attention():
    tree = tree_of(SHAPE, torch.device("cuda"))
    q, k, v = (x.cuda() for x in heads(tree.families[-1].stop, width=64))
    found, _ = attention(torch.nn.Module(), q, k, v, None, tree=tree, sliding_window=16)
    expected = _family_attention(q.cpu(), k.cpu(), v.cpu(), tree_of(SHAPE), None, 16)
    torch.testing.assert_close(found.cpu(), expected, atol=1e-4, rtol=1e-4)
