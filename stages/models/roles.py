"""One set of base weights in several roles: which adapters are on says who computes.

The part of the chain that all roles have in common becomes part of the base (`stages.models.chain.attach`). What a role
has beyond it is a frozen PEFT adapter by its own name, and the adapter to be trained is PEFT's `default`. So the
reference is the policy with the newest adapter off, and a reward model costs the megabytes of its adapter.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.context import Artifact
from pipeline.errors import ConfigError
from stages.models.chain import AdapterRef, Chain, Policy, adapter_weights, load_policy

if TYPE_CHECKING:
    import peft
    import torch

TRAINED = "default"
Layers = dict[str, "tuple[torch.Tensor, torch.Tensor]"]  # module -> A (r, in) and B (out, r) with the scaling in it


@dataclass
class Roles:
    """A model and the adapters of each of its roles, lowest first."""

    policy: Policy
    model: "peft.PeftModel"
    adapters: dict[str, tuple[str, ...]] = field(default_factory=dict)
    role: str = ""  # as which it computes now; none before the first `switch`

    @contextmanager
    def playing(self, role: str) -> Iterator[None]:
        """Inside, the model computes as `role`; afterwards as before."""
        before = self.role
        self.switch(role)
        try:
            yield
        finally:
            self.switch(before)

    def switch(self, role: str) -> None:
        """The model computes as `role` from now on."""
        self.role = role
        for layer in self._layers():
            layer._active_adapter, layer._disable_adapters = list(self.adapters[role]), not self.adapters[role]

    def add_frozen(self, name: str, layers: Layers) -> None:
        """An adapter as it was trained: it is in no role yet, and never receives a gradient."""
        if name not in self.model.peft_config:
            self._add(name, layers, trained=False)

    def add_trained(self, name: str, layers: Layers | None, like: "peft.PeftConfig") -> None:
        """A further adapter to be trained: it begins as `layers`, or as a new one of the kind `like`."""
        if layers is not None:
            self._add(name, layers, trained=True)
            return
        self._join(name, like)
        for path, parameter in self.model.named_parameters():
            if of_adapter(path, name):
                parameter.requires_grad_(True)

    def _join(self, name: str, config: "peft.PeftConfig") -> None:
        """A new adapter, off until a role has it. PEFT leaves only the adapter on that was first."""
        self.model.add_adapter(name, config)
        if self.role:
            self.switch(self.role)

    def _layers(self) -> list[Any]:
        from peft.tuners.tuners_utils import BaseTunerLayer

        return [module for module in self.model.modules() if isinstance(module, BaseTunerLayer)]

    def _add(self, name: str, layers: Layers, *, trained: bool) -> None:
        import torch
        from peft import LoraConfig

        ranks = {module: len(a) for module, (a, _) in layers.items()}
        config = LoraConfig(
            r=max(ranks.values()), lora_alpha=max(ranks.values()), target_modules=sorted(layers), task_type="CAUSAL_LM",
            rank_pattern=ranks, alpha_pattern=ranks, init_lora_weights=False,
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]):  # what PEFT draws is written over at once
            self._join(name, config)
        found = {path.removeprefix("base_model.model."): module for path, module in self.model.named_modules()}
        for path, (a, b) in layers.items():
            layer = found[path]
            layer.lora_A[name].weight.data.copy_(a)
            layer.lora_B[name].weight.data.copy_(b)
            for part in (layer.lora_A, layer.lora_B):
                part[name].requires_grad_(trained)


def open_roles(
    policy: Artifact, judges: dict[str, Artifact], lineage: dict[str, Artifact], adapter: "peft.PeftConfig", *,
    device: str, method: str, cache: Path, dequant_cache_gib: float = 0.0,
) -> Roles:  # fmt: skip
    """The policy's base, loaded once, in the roles `policy` (with the new `adapter`) and `reference` (without it).

    `judges`: further chains on the same base, for which `add_frozen` may then add what they have beyond the shared
    part; each gets the role that it is called by. ConfigError for a chain on another base.
    """
    from peft import get_peft_model

    own, chains = Chain.read(policy), {name: Chain.read(judge) for name, judge in judges.items()}
    for name, chain in chains.items():
        if chain.base["artifact"] != own.base["artifact"]:
            raise ConfigError(
                f"{name}: its base is {chain.base['source']}, the policy's is {own.base['source']}; one base serves "
                "all roles, so build it on the policy's own"
            )
    links = shared_links([own.adapters, *(chain.adapters for chain in chains.values())])
    loaded = load_policy(
        policy, lineage, device=device, method=method, cache=cache, dequant_cache_gib=dequant_cache_gib, links=links
    )
    roles = Roles(loaded, get_peft_model(loaded.model, adapter))
    known = {**lineage, policy.id: policy, **{judge.id: judge for judge in judges.values()}}
    for role, chain in {"reference": own, **chains}.items():
        roles.adapters[role] = tuple(map(_name, chain.adapters[links:]))
        for ref in chain.adapters[links:]:
            roles.add_frozen(_name(ref), adapter_weights(known[ref.artifact], ref, own.base["artifact"]).layers)
    roles.adapters["policy"] = (*roles.adapters["reference"], TRAINED)
    roles.switch("policy")
    return roles


def of_adapter(parameter: str, adapter: str) -> bool:
    """Whether a parameter is one of the adapter, as `...lora_A.ADAPTER.weight` is."""
    return parameter.split(".")[-2:-1] == [adapter]


def shared_links(chains: Sequence[Sequence[AdapterRef]]) -> int:
    """How many adapters all chains begin with."""
    digests = [[ref.digest for ref in chain] for chain in chains]
    return next((i for i, same in enumerate(zip(*digests, strict=False)) if len(set(same)) > 1), min(map(len, digests)))


def _name(ref: AdapterRef) -> str:
    return f"link_{ref.digest[:16]}"  # PEFT refuses some characters that a stage's name may have
