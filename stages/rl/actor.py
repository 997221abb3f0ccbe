"""Log-probabilities, entropies and values of sampled answers under one role of the shared model.

Shapes: B answers of up to T tokens each, the token that ends one included; N tokens of all of them; D hidden, V words.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stages.kernels import head, layout
from stages.kernels.tree import no_mask
from stages.models.roles import Roles

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Ids = list[int]
VALUE = "value"  # the role whose states the value head reads, where it has an adapter of its own


@dataclass
class Seen:
    """What the model says of each token of B answers, (B, T) each, 0 after an answer's end."""

    log_probs: Tensor
    entropy: Tensor
    values: Tensor | None = None


@dataclass
class States:
    """The hidden state (N, D) before each of N answer tokens, the tokens (N,), and where they stand in (B, T)."""

    hidden: Tensor
    targets: Tensor
    place: tuple[Tensor, Tensor]
    shape: tuple[int, int]

    def spread(self, flat: Tensor) -> Tensor:
        return flat.new_zeros(self.shape).index_put(self.place, flat)


class ValueHead(nn.Linear):
    """The expected reward from a token on, of the state before it: (N, D) -> (N,), in float32 or what is finer."""

    def __init__(self, hidden: int, dtype: torch.dtype, device: str) -> None:
        super().__init__(hidden, 1, dtype=torch.promote_types(dtype, torch.float32), device=device)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, states: Tensor) -> Tensor:
        return super().forward(states.to(self.weight.dtype))[:, 0]


@dataclass
class Actor:
    """The trained policy with its value function. `fast`: shared prompts and fused layers; else plain PyTorch."""

    roles: Roles
    value_head: ValueHead
    fast: bool
    temperature: float = 1.0

    def see(self, prompts: list[Ids], answers: list[Ids], *, entropy_gradient: bool = False) -> Seen:
        """The policy's view of the answers, with gradients where they are on."""
        states = self._states(prompts, answers)
        log_probs, entropy = self._score(states, entropy_gradient)
        if VALUE in self.roles.adapters:
            with self.roles.playing(VALUE):
                values = self.value_head(self._states(prompts, answers).hidden)
        else:
            values = self.value_head(states.hidden)
        return Seen(states.spread(log_probs), states.spread(entropy), states.spread(values))

    def see_as(self, role: str, prompts: list[Ids], answers: list[Ids]) -> Seen:
        """What another role says of the answers, without values."""
        with self.roles.playing(role):
            states = self._states(prompts, answers)
            log_probs, entropy = self._score(states, entropy_gradient=False)
        return Seen(states.spread(log_probs), states.spread(entropy))

    def likelihood(self, rows: list[Ids]) -> Tensor:
        """Log-probability (B, T) of each token of the rows after its first one, at temperature 1 and with gradients."""
        states = self._states([row[:1] for row in rows], [row[1:] for row in rows])
        return states.spread(self._score(states, entropy_gradient=False, temperature=1.0)[0])

    def _states(self, prompts: list[Ids], answers: list[Ids]) -> States:
        model = self.roles.policy.model
        shape = (len(answers), max(map(len, answers)))
        return (_shared_states if self.fast else _padded_states)(model, prompts, answers, shape)

    def _score(self, states: States, entropy_gradient: bool, temperature: float | None = None) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy (N,) of each token, at the sampling temperature unless another is given."""
        model = self.roles.policy.model
        output, plain = model.get_output_embeddings(), head.logits_of(model)
        logits = head.Logits(plain.scale / (temperature or self.temperature), plain.cap)
        if self.fast:
            found = head.score(
                states.hidden, output.weight, output.bias, states.targets, logits, entropy_gradient=entropy_gradient,
                triton=model.triton_kernels,
            )  # fmt: skip
            return found.log_probs, found.entropy
        z = nn.functional.linear(states.hidden, output.weight, output.bias)
        z = z.to(torch.promote_types(z.dtype, torch.float32)) * logits.scale
        log_p = torch.log_softmax(z if logits.cap is None else logits.cap * torch.tanh(z / logits.cap), dim=1)
        entropy = -(log_p.exp() * log_p).sum(dim=1)
        return log_p.gather(1, states.targets[:, None])[:, 0], entropy if entropy_gradient else entropy.detach()


def _shared_states(model: "PreTrainedModel", prompts: list[Ids], answers: list[Ids], shape: tuple[int, int]) -> States:
    """Without padding, each prompt computed once for all of its answers."""
    device = model.device
    batch = [
        layout.Sequence(i, 0, prompt + answer, list(range(len(prompt), len(prompt) + len(answer))), answer)
        for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
    ]
    row = layout.lay_out(batch, device)
    hidden = _hidden(
        model, input_ids=row.ids, position_ids=row.tree.positions(), attention_mask=no_mask(device), tree=row.tree
    )
    rows, columns = row.place  # columns count from the second token
    first = torch.tensor([len(prompt) - 1 for prompt in prompts], device=device)
    return States(hidden[0][row.after], row.targets, (rows, columns - first[rows]), shape)


def _padded_states(model: "PreTrainedModel", prompts: list[Ids], answers: list[Ids], shape: tuple[int, int]) -> States:
    """A rectangle with padding on the right, as any PyTorch model takes it."""
    device = model.device
    sequences = [torch.tensor(prompt + answer) for prompt, answer in zip(prompts, answers, strict=True)]
    ids = nn.utils.rnn.pad_sequence(sequences, batch_first=True).to(device)
    mask = nn.utils.rnn.pad_sequence([torch.ones_like(s) for s in sequences], batch_first=True).to(device)
    hidden = _hidden(model, input_ids=ids, attention_mask=mask)
    rows = torch.cat([torch.full((len(answer),), i) for i, answer in enumerate(answers)]).to(device)
    columns = torch.cat([torch.arange(len(answer)) for answer in answers]).to(device)
    first = torch.tensor(list(map(len, prompts)), device=device)[rows]
    return States(hidden[rows, first + columns - 1], ids[rows, first + columns], (rows, columns), shape)


def _hidden(model: "PreTrainedModel", **inputs: Any) -> Tensor:
    return model.base_model(use_cache=False, **inputs).last_hidden_state
