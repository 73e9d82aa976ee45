"""Memory at the top of the search ranges, where no machine here could hold a step: its tensors have shapes, but no memory."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_feasibility import build, example, measure, plain_torch, step  # noqa: F401 a fixture
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from model import precision, registry
from model.feasibility import Batch, peak_memory_gb
from model.layers import convolution
from model.specs import ModelSpec, Precision

HEADS = {"head_layers": 4, "head_hidden": 2000}
"""The largest that searches take."""
_CHEAP = ("painn", "schnet")
"""Whose tensors without memory are compared with real ones in every run of the tests, in a few seconds."""


class LiveBytes(TorchDispatchMode):
    """Count the bytes of the storages that operations make, for as long as each lives.

    Attributes:
        peak: The most so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known = WeakIdKeyDictionary(ref_type=weakref.ref)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in tree_leaves(out):
            if isinstance(each, Tensor):
                self._take(each.untyped_storage())
        return out

    def _take(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known[storage] = size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.live -= size


def fake_measure(spec: ModelSpec, branches: int, batch: tuple[int, int], name: Precision) -> float:
    """Return what `measure` does, in GB, of tensors without memory; what an operation holds within itself is not seen."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def without_memory(tensor: Tensor) -> Tensor:
        return FakeTensor(mode, tensor.detach().to("meta"), torch.device("cpu"))

    model = precision.apply(build(spec, branches, "meta"), name)
    for module in model.modules():
        for key, parameter in module.named_parameters(recurse=False):
            setattr(module, key, nn.Parameter(without_memory(parameter)))
        for key, buffer in module.named_buffers(recurse=False):
            setattr(module, key, without_memory(buffer))
    optimizer = torch.optim.AdamW(model.parameters())
    for atoms_edges in ((8, 16), batch):
        optimizer.zero_grad(set_to_none=True)
        graph = example(atoms_edges, branches, precision.POLICIES[name].dtype)
        fields = {key: value for key, value in vars(graph).items() if value is not None}
        floats = {key: without_memory(value) for key, value in fields.items() if value.is_floating_point()}
        with LiveBytes() as bytes_:
            step(model, optimizer, replace(graph, **floats))
    held = 3 * sum(p.numel() * p.element_size() for p in model.parameters())
    held += sum(t.numel() * t.element_size() for t in fields.values())
    return (held + bytes_.peak) / 1e9


def top_of_range(name: str) -> ModelSpec:
    """Return the largest model that a search draws."""
    fields = registry.backbone_config(name).model_fields
    ranges = {key: (field.json_schema_extra or {}).get("search", {}) for key, field in fields.items()}
    options = {key: found["high"] for key, found in ranges.items() if "high" in found}
    return ModelSpec.model_validate({"backbone": {"name": name, **options}, **HEADS})


@pytest.mark.parametrize(
    "backbone", [name if name in _CHEAP else pytest.param(name, marks=pytest.mark.slow) for name in registry.backbones()]
)
def test_without_memory_as_much_is_counted_as_with(backbone: str, plain_torch: None) -> None:  # noqa: F811
    spec = ModelSpec.model_validate({"backbone": {"name": backbone, "layers": 2, "hidden": 48}})
    assert fake_measure(spec, 2, (200, 2000), "fp32") == pytest.approx(measure(spec, 2, (200, 2000), "fp32"), rel=0.05)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("backbone", registry.backbones())
@pytest.mark.parametrize("name", ["fp64", "bf16"])
def test_the_largest_models_of_the_searches_are_foretold(
    backbone: str,
    name: Precision,
    plain_torch: None,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # MACE works on a core's cache of edges at a time: thousands of parts of this batch, each an operation without memory.
    monkeypatch.setitem(convolution._WORDS_AT_ONCE, "cpu", 1 << 26)
    spec, (atoms, edges) = top_of_range(backbone), (2000, 40000)
    found = fake_measure(spec, 16, (atoms, edges), name)
    foretold = peak_memory_gb(spec, 16, Batch.even(atoms, edges), name)
    assert foretold == pytest.approx(found, rel=0.2)
    assert foretold * 1.2 >= found, "none that runs out is called feasible"
