"""Triton kernels for work that memory decides: each reads its input once where PyTorch would go over it several times.

For `runtime.kernels: triton` on a GPU. The formulas and their gradients are those of `norm`, `mlp`, `rotary` and
`head`, whose plain PyTorch is the reference in the tests. Everything is computed in float32 and rounded once, when it
is written.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

VALUES = 2048  # of a tile: enough for every thread of a block to keep several loads in flight
VOCABULARY = 4096  # logits of a row that are looked at together


@triton.jit
def _norm_forward(x, weight, y, scale, rows, width, eps, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    row, column = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    at = row.to(tl.int64)[:, None] * width + column[None, :]
    there = (row < rows)[:, None] & (column < width)[None, :]
    wide = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
    found = tl.rsqrt(tl.sum(wide * wide, axis=1) / width + eps)
    tl.store(scale + row, found, mask=row < rows)
    normed = (wide * found[:, None]).to(y.dtype.element_ty).to(tl.float32)  # rounded here too, as Transformers does
    by = tl.load(weight + column, mask=column < width, other=0.0).to(tl.float32)
    tl.store(y + at, (normed * by[None, :]).to(y.dtype.element_ty), mask=there)


@triton.jit
def _norm_backward(x, weight, scale, grad, out, rows, width, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    row, column = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    at = row.to(tl.int64)[:, None] * width + column[None, :]
    there = (row < rows)[:, None] & (column < width)[None, :]
    wide = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
    by = tl.load(weight + column, mask=column < width, other=0.0).to(tl.float32)
    inner = tl.load(grad + at, mask=there, other=0.0).to(tl.float32) * by[None, :]
    found = tl.load(scale + row, mask=row < rows, other=0.0)
    along = tl.sum(inner * wide, axis=1) * found * found / width
    tl.store(out + at, ((inner - wide * along[:, None]) * found[:, None]).to(out.dtype.element_ty), mask=there)


def norm_forward(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """RMSNorm of x (..., D) under weight (D,) of the same dtype; and the rows' scales (...,) in float32."""
    x = x.contiguous()
    y, scale = torch.empty_like(x), x.new_empty(x.shape[:-1], dtype=torch.float32)
    with torch.cuda.device_of(x):
        grid, tile = _rows(x)
        _norm_forward[grid](x, weight, y, scale, scale.numel(), x.shape[-1], eps, **tile)
    return y, scale


def norm_backward(x: Tensor, weight: Tensor, scale: Tensor, grad: Tensor) -> Tensor:
    """Gradient of x (..., D) from that of what `norm_forward` gave."""
    x, grad = x.contiguous(), grad.contiguous()
    out = torch.empty_like(x)
    with torch.cuda.device_of(x):
        grid, tile = _rows(x)
        _norm_backward[grid](x, weight, scale, grad, out, scale.numel(), x.shape[-1], **tile)
    return out


def _rows(x: Tensor) -> tuple[tuple[int], dict[str, int]]:
    """Programs, and the tile of each: whole rows of x (..., D), several where they are short."""
    width = triton.next_power_of_2(x.shape[-1])
    rows = max(1, VALUES // width)
    count = x.numel() // x.shape[-1]
    return (triton.cdiv(count, rows),), {"ROWS": rows, "WIDTH": width, "num_warps": 8 if width >= 4096 else 4}


@triton.jit
def _swiglu_forward(gate, up, out, count, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = at < count
    g, u = tl.load(gate + at, mask=there, other=0.0).to(tl.float32), tl.load(up + at, mask=there, other=0.0)
    tl.store(out + at, (g * tl.sigmoid(g) * u.to(tl.float32)).to(out.dtype.element_ty), mask=there)


@triton.jit
def _swiglu_backward(gate, up, grad, out, by_gate, by_up, count, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = at < count
    g = tl.load(gate + at, mask=there, other=0.0).to(tl.float32)
    u = tl.load(up + at, mask=there, other=0.0).to(tl.float32)
    d = tl.load(grad + at, mask=there, other=0.0).to(tl.float32)
    open_ = tl.sigmoid(g)
    silu = g * open_
    tl.store(out + at, (silu * u).to(out.dtype.element_ty), mask=there)
    tl.store(by_gate + at, (d * u * (open_ + silu * (1.0 - open_))).to(out.dtype.element_ty), mask=there)
    tl.store(by_up + at, (d * silu).to(out.dtype.element_ty), mask=there)


def swiglu_forward(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up, all of one shape and dtype (Shazeer 2020, arXiv 2002.05202)."""
    out = torch.empty_like(gate)
    with torch.cuda.device_of(gate):
        _swiglu_forward[(triton.cdiv(gate.numel(), VALUES),)](gate, up, out, gate.numel(), BLOCK=VALUES)
    return out


def swiglu_backward(gate: Tensor, up: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What `swiglu_forward` gave, made again, and the gradients of gate and up from `grad`, that of the product."""
    out, by_gate, by_up = (torch.empty_like(gate) for _ in range(3))
    with torch.cuda.device_of(gate):
        grid = (triton.cdiv(gate.numel(), VALUES),)
        _swiglu_backward[grid](gate, up, grad, out, by_gate, by_up, gate.numel(), BLOCK=VALUES)
    return out, by_gate, by_up


@triton.jit
def _rotate(x, cos, sin, y, heads, half, of_token, of_head, sign, HEADS: tl.constexpr, HALF: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    head, column = tl.program_id(1) * HEADS + tl.arange(0, HEADS), tl.arange(0, HALF)
    there = (head < heads)[:, None] & (column < half)[None, :]
    at = x + token * of_token + head[:, None] * of_head + column[None, :]
    first = tl.load(at, mask=there, other=0.0).to(tl.float32)
    second = tl.load(at + half, mask=there, other=0.0).to(tl.float32)
    angle, inside = token * 2 * half + column, column < half
    c1 = tl.load(cos + angle, mask=inside, other=0.0).to(tl.float32)[None, :]
    c2 = tl.load(cos + angle + half, mask=inside, other=0.0).to(tl.float32)[None, :]
    s1 = tl.load(sin + angle, mask=inside, other=0.0).to(tl.float32)[None, :]
    s2 = tl.load(sin + angle + half, mask=inside, other=0.0).to(tl.float32)[None, :]
    if sign < 0:  # the transposed rotation: what a half gives to the other is weighted by that half's own sine
        s1, s2 = -s2, -s1
    to = y + (token * heads + head[:, None]) * 2 * half + column[None, :]
    tl.store(to, (first * c1 - second * s1).to(y.dtype.element_ty), mask=there)
    tl.store(to + half, (second * c2 + first * s2).to(y.dtype.element_ty), mask=there)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, backward: bool = False) -> Tensor:
    """x (1, H, T, D) turned by angles whose cosines and sines are (1, T, D); `backward`: by the transposed matrix.

    RoPE as Transformers lays it out, the halves of D being the pairs (Su et al. 2021, arXiv 2104.09864).
    """
    _, heads, tokens, width = x.shape
    x = x if x.stride(-1) == 1 else x.contiguous()
    y = x.new_empty(1, tokens, heads, width)
    half = triton.next_power_of_2(width // 2)
    each = min(triton.next_power_of_2(heads), max(1, VALUES // half))
    with torch.cuda.device_of(x):
        _rotate[(tokens, triton.cdiv(heads, each))](
            x, cos.contiguous(), sin.contiguous(), y, heads, width // 2, x.stride(2), x.stride(1),
            -1 if backward else 1, HEADS=each, HALF=half,
        )  # fmt: skip
    return y.transpose(1, 2)


@triton.jit
def _as_logits(raw, scale, cap, CAPPED: tl.constexpr):
    z = raw.to(tl.float32) * scale
    if CAPPED:
        z = cap * (2.0 * tl.sigmoid(2.0 * z / cap) - 1.0)  # cap * tanh(z / cap)
    return z


@triton.jit
def _by_raw(by_logit, z, scale, cap, CAPPED: tl.constexpr):
    if CAPPED:
        by_logit = by_logit * (1.0 - (z / cap) * (z / cap))
    return by_logit * scale


@triton.jit
def _score(
    raw, targets, found, entropy, squares, mean, top, own, by_found, by_entropy, words, scale, cap,
    CAPPED: tl.constexpr, OF_FOUND: tl.constexpr, OF_ENTROPY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets + row)
    largest, first = -float("inf"), words
    mass, weighted, squared, total = 0.0, 0.0, 0.0, 0.0  # of exp(z - largest): sums of it, of it times z, of its square
    for start in range(0, words, BLOCK):
        column = start + tl.arange(0, BLOCK)
        there = column < words
        z = _as_logits(tl.load(raw + row * words + column, mask=there, other=0.0), scale, cap, CAPPED)
        total += tl.sum(z)  # what is not there is 0
        seen = tl.where(there, z, -float("inf"))
        here = tl.max(seen)
        place = tl.min(tl.where(seen == here, column, words))
        first = tl.where(here > largest, place, first)
        higher = tl.maximum(largest, here)
        kept = tl.exp(largest - higher)
        e = tl.exp(seen - higher)
        mass = mass * kept + tl.sum(e)
        weighted = weighted * kept + tl.sum(e * z)
        squared = squared * kept * kept + tl.sum(e * e)
        largest = higher
    log_mass = largest + tl.log(mass)
    own_z = _as_logits(tl.load(raw + row * words + target), scale, cap, CAPPED)
    h = log_mass - weighted / mass
    tl.store(found + row, own_z - log_mass)
    tl.store(entropy + row, h)
    tl.store(squares + row, tl.log(squared) - 2.0 * tl.log(mass))
    tl.store(mean + row, total / words)
    tl.store(top + row, first == target)
    if OF_FOUND:
        tl.store(own + row, _by_raw(tl.exp(own_z - log_mass) - 1.0, own_z, scale, cap, CAPPED))
        for start in range(0, words, BLOCK):
            column = start + tl.arange(0, BLOCK)
            there = column < words
            z = _as_logits(tl.load(raw + row * words + column, mask=there, other=0.0), scale, cap, CAPPED)
            log_p = z - log_mass
            p = tl.exp(log_p)
            if OF_ENTROPY:
                by = _by_raw(-p * (log_p + h), z, scale, cap, CAPPED)
                tl.store(by_entropy + row * words + column, by.to(by_entropy.dtype.element_ty), mask=there)
            by = tl.where(column == target, 0.0, _by_raw(p, z, scale, cap, CAPPED))
            tl.store(by_found + row * words + column, by.to(by_found.dtype.element_ty), mask=there)


def score(
    raw: Tensor, targets: Tensor, scale: float, cap: float | None, *, gradient: bool, entropy_gradient: bool
) -> tuple[tuple[Tensor, ...], Tensor | None, Tensor | None, Tensor | None]:
    """All that `head` wants of n rows of W h (n, V), logits before scale and cap, of which two passes are enough.

    Gives log-probability of the target, entropy, log of the summed squares, mean logit (n,) and whether the target
    comes first; then, with `gradient`, that of -log p by W h: the target's own entry (n,) in float32, and the others
    (n, V), written over `raw`; and with `entropy_gradient` that of the entropy (n, V).
    """
    rows, words = raw.shape
    fields = [raw.new_empty(rows, dtype=torch.float32) for _ in range(4)]
    top, own = raw.new_empty(rows, dtype=torch.bool), raw.new_empty(rows if gradient else 0, dtype=torch.float32)
    by_entropy = torch.empty_like(raw) if entropy_gradient else None
    with torch.cuda.device_of(raw):
        _score[(rows,)](
            raw, targets.contiguous(), *fields, top, own, raw, raw if by_entropy is None else by_entropy, words, scale,
            1.0 if cap is None else cap, CAPPED=cap is not None, OF_FOUND=gradient, OF_ENTROPY=entropy_gradient,
            BLOCK=VOCABULARY, num_warps=8,
        )  # fmt: skip
    return (*fields, top), own if gradient else None, raw if gradient else None, by_entropy
