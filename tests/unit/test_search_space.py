"""The space of a search: the backbone's ranges, the file's, and where values go."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from model.outcome import CampaignError
from model.registry import backbone_config, backbones
from model.specs import ModelSpec
from workflow.search.space import SHARED, Dimension, Range, make_space


@pytest.mark.parametrize("name", backbones())
def test_without_a_word_everything_varies_that_states_a_range(name: str) -> None:
    space = make_space(name, {})
    stated = {f for f, info in backbone_config(name).model_fields.items() if info.json_schema_extra}
    assert {d.name for d in space.dimensions} == stated | set(SHARED)
    for dimension in space.dimensions:
        for end in dimension.ends:
            model = space.model(space.fill({dimension.name: end}))
            backbone_config(name)(**model["backbone"])
            ModelSpec(**model)


def test_named_ranges_vary_and_values_are_held() -> None:
    space = make_space(
        "painn", {"hidden": Range(low=8, high=64, log=True), "layers": 2, "learning_rate": Range(choices=(1e-3, 1e-1))}
    )
    assert [d.name for d in space.dimensions] == ["hidden", "learning_rate"]
    assert space.dimensions[0] == Dimension("hidden", 8, 64, True, True)
    point = space.fill({"learning_rate": 1e-1})
    assert point == {"hidden": 23, "learning_rate": 1e-1}
    assert space.model(point) == {"backbone": {"name": "painn", "layers": 2, "hidden": 23}}
    assert space.training(point) == {"optimizer": {"learning_rate": 1e-1}}


def test_an_empty_mapping_takes_the_backbones_own_range() -> None:
    (dimension,) = make_space("painn", {"hidden": Range()}).dimensions
    assert (dimension.low, dimension.high) == (100, 1000)


def test_values_for_heads_and_loss_go_where_they_belong() -> None:
    space = make_space(
        "painn", {"head_hidden": 32, "head_layers": Range(low=1, high=3), "force_weight": Range(low=1, high=100, log=True)}
    )
    assert space.model({"head_layers": 2, "force_weight": 10.0}) == {
        "backbone": {"name": "painn"},
        "head_hidden": 32,
        "head_layers": 2,
    }
    assert space.training({"force_weight": 10.0}) == {"loss": {"forces": 10.0}}


def test_a_range_of_one_value_does_not_vary() -> None:
    space = make_space("painn", {"layers": Range(low=3, high=3), "hidden": Range(choices=(16,))})
    assert (space.dimensions, space.fixed) == ((), {"hidden": 16, "layers": 3})


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(CampaignError, match="hiden.*\n.*Did you mean 'hidden'"):
        make_space("painn", {"hiden": Range()})
    with pytest.raises(CampaignError, match="no backbone 'pain'"):
        make_space("pain", {})
    with pytest.raises(CampaignError, match="'mixing' has no range of its own"):
        make_space("painn", {"mixing": Range()})


@pytest.mark.parametrize(
    "keys",
    [
        {"low": 2, "high": 1},
        {"low": 1},
        {"low": 1, "high": 2, "choices": [1]},
        {"choices": []},
        {"low": 0, "high": 1, "log": True},
    ],
)
def test_an_impossible_range_is_refused(keys: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Range(**keys)  # type: ignore[arg-type]


def test_points_outside_are_named() -> None:
    space = make_space("painn", {"hidden": Range(low=8, high=64), "learning_rate": Range(choices=(1e-3, 1e-1))})
    assert space.problems({"hidden": 16, "learning_rate": 1e-3}) == []
    assert len(space.problems({"hidden": 7, "learning_rate": 1.0, "layers": 2})) == 3
    assert space.problems({"hidden": 8.5})


def test_counting_points() -> None:
    assert make_space("painn", {"hidden": Range(low=8, high=10), "layers": Range(choices=(1, 2))}).num_points == 6
    assert make_space("painn", {"hidden": Range(low=8, high=10), "learning_rate": Range()}).num_points == float("inf")


LAYERS, WIDE, MEDIUM, RADIAL = (2, 6), (100, 3000), (100, 1000), (3, 12)
REFERENCE = {
    "egnn": {"layers": LAYERS, "hidden": WIDE},
    "schnet": {"layers": LAYERS, "hidden": WIDE, "filters": (6, 300), "gaussians": (3, 100)},
    "dimenet": {
        "layers": LAYERS,
        "hidden": (10, 100),
        "basis_embedding": (8, 200),
        "envelope": (4, 6),
        "interaction_embedding": (16, 500),
        "output_embedding": (24, 4000),
        "after_skip": (0, 2),
        "before_skip": (0, 2),
        "radial": RADIAL,
        "spherical": (2, 8),
    },
    "mace": {
        "layers": LAYERS,
        "hidden": MEDIUM,
        "basis": ("bessel", "gaussian", "chebyshev"),
        "transform": ("agnesi", "soft"),
        "radial": RADIAL,
        "max_ell": (2, 3),
        "node_max_ell": (1, 3),
        "correlation": (2, 3),
    },
    "painn": {"layers": LAYERS, "hidden": MEDIUM, "radial": RADIAL},
    "pnaeq": {"layers": LAYERS, "hidden": MEDIUM, "radial": RADIAL},
}
"""The search space of the reference campaign, by backbone; its heads have 2 to 4 layers of 300 to 2,000."""


@pytest.mark.parametrize("name", backbones())
def test_a_backbones_own_space_is_that_of_the_reference(name: str) -> None:
    found = {dimension.name: dimension.ends for dimension in make_space(name, {}).dimensions}
    assert found.items() >= REFERENCE[name].items()
    assert (found["head_layers"], found["head_hidden"]) == ((2, 4), (300, 2000))
