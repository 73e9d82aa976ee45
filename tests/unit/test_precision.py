"""Which arithmetic runs where."""

from __future__ import annotations

import pytest
import torch
from graphs import graph_of, molecule
from torch.utils._python_dispatch import TorchDispatchMode

from model import precision, registry
from model.layers.dense import Dense
from model.multitask import MultiTaskModel, unit_statistics
from model.specs import LossSpec, ModelSpec
from model.training.loss import Deviations, Loss, count_labels

PRODUCTS = {"aten.mm.default", "aten.addmm.default", "aten.bmm.default"}


class Watch(TorchDispatchMode):
    """Note the precision of every operation that runs, and what goes into BF16.

    Attributes:
        seen: Operations and the precisions of their results.
        cast: Where the tensors lie that are cast to BF16.
        products: Shapes of both operands and the result of each product in BF16.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[str, torch.dtype]] = set()
        self.cast: set[int] = set()
        self.products: set[tuple[tuple[int, ...], ...]] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.is_floating_point():
            self.seen.add((str(func), out.dtype))
            if out.dtype == torch.bfloat16 and str(func) in PRODUCTS:
                self.products.add((*(tuple(each.shape) for each in args[-2:]), tuple(out.shape)))
            elif out.dtype == torch.bfloat16:
                self.cast.add(args[0].untyped_storage().data_ptr())
        return out


def make(name: str, backbone: str = "painn", **changes: str) -> MultiTaskModel:
    spec = ModelSpec(backbone={"name": backbone, "hidden": 16, "layers": 2}, **changes)
    return precision.apply(MultiTaskModel(spec, ("a",), unit_statistics(spec, 1, 6.0)), name)


def graph_in(dtype: torch.dtype):
    return graph_of([molecule(), molecule(5, seed=1)], 5.0, dtype)


@pytest.mark.parametrize("name", ["fp64", "fp32"])
@pytest.mark.parametrize("backbone", registry.backbones())
def test_one_precision_throughout(backbone, name):
    dtype = precision.POLICIES[name].dtype
    model, graph = make(name, backbone), graph_in(dtype)
    with Watch() as watch:
        prediction = model.predict(graph, training=True)
        (prediction.forces.square().sum() + prediction.energy.sum()).backward()
    assert {seen for _, seen in watch.seen} == {dtype}


@pytest.mark.parametrize("changes", [{}, {"forces": "head"}, {"readout": "graph"}], ids=["plain", "head", "graph"])
@pytest.mark.parametrize("backbone", registry.backbones())
def test_bf16_lowers_wide_products_and_nothing_else(backbone, changes):
    model, graph = make("bf16", backbone, **changes), graph_in(torch.float32)
    graph = graph.with_(energy=torch.ones(2), forces=torch.ones_like(graph.positions))
    with Watch() as watch:
        prediction = model.predict(graph, training=True)
        loss = Loss(LossSpec(), [1.0])(Deviations(prediction, graph), count_labels(graph, 1))
        loss.backward()
    lowered = {op for op, dtype in watch.seen if dtype == torch.bfloat16}
    assert lowered & PRODUCTS
    assert lowered - PRODUCTS <= {"aten._to_copy.default"}, "only casts beside the products"
    assert prediction.energy.dtype == prediction.forces.dtype == loss.dtype == torch.float32
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters())
    last = [
        each for head in model.heads.values() for each in (head.energy.layers[-1], head.forces and head.forces.weight) if each
    ]
    dense = [each.weight for each in model.modules() if isinstance(each, Dense) and all(each is not one for one in last)]
    wide = [each for each in dense if min(each.shape) >= 8]
    where = {each.untyped_storage().data_ptr() for each in wide}
    cast = [name for name, p in model.named_parameters() if p.untyped_storage().data_ptr() in watch.cast - where]
    assert not cast, "no radial filter, no last layer, nothing narrow"
    shapes = {shape for each in wide for shape in (tuple(each.shape), tuple(each.shape)[::-1])}
    assert all(shapes & set(product) for product in watch.products), "each with a wide layer's weights, or for them"


def test_bf16_stays_near_fp32():
    exact, low = make("fp32"), make("bf16")
    graph = graph_in(torch.float32)
    left, right = exact.predict(graph, training=False), low.predict(graph, training=False)
    assert 0 < float((left.forces - right.forces).abs().max()) < 0.1 * float(left.forces.abs().max())


def test_products_that_are_not_wide_stay_high():
    """The lead model's first layer is one feature wide, an atomic number: in BF16 its forces would be wrong by their own size."""
    spec = ModelSpec(backbone={"name": "painn", "hidden": 16, "layers": 2, "mixing": True}, elements="number")
    first, second = precision.apply(MultiTaskModel(spec, ("a",), unit_statistics(spec, 1)), "bf16").backbone.layers
    assert {each.product_dtype for each in first.modules() if isinstance(each, Dense) and each.in_features < 8} == {None}
    assert {each.product_dtype for each in second.modules() if isinstance(each, Dense)} == {torch.bfloat16}


def test_the_last_layer_stays_high():
    assert make("bf16").heads["a"].energy.layers[-1].product_dtype is None
    assert make("bf16").heads["a"].energy.layers[0].product_dtype == torch.bfloat16


def test_precision_can_be_changed_back():
    model = make("fp64")
    before = model.predict(graph_in(torch.float64), training=False)
    precision.apply(precision.apply(model, "bf16"), "fp64")
    after = model.predict(graph_in(torch.float64), training=False)
    torch.testing.assert_close(before.energy, after.energy, rtol=1e-6, atol=1e-6)
