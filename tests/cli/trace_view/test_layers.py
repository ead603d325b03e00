"""Groups are sorted into layers, and identical layers are one."""

import dataclasses

import pytest
from torch import nn

from mtcore.cli.trace_view.layers import fold_groups, layer_of, sort_into_layers


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("model.layers.11.mlp.experts.3.w1", "model.layers.11"),
        ("model.layers.11", "model.layers.11"),
        ("layer1.0.conv1.weight", "layer1.0"),
        ("lm_head.weight", ""),
        ("conv1.weight", ""),
        ("0.weight", "0"),
    ],
)
def test_a_layer_ends_with_the_first_number_of_a_name(name, layer):
    assert layer_of(name) == layer


def test_identical_layers_are_one_and_what_spans_them_stands_apart(net, traced):
    trace = traced(net(3))
    layers = sort_into_layers(trace.report, trace.shapes)
    assert [(layer.title, len(layer.names), layer.kind) for layer in layers.layers] == [
        ("layers.[0-2]", 3, "Layer"),
        ("outside the layers", 1, "Net"),
    ]
    assert {group.lane for group in layers.across} == {"channels"}
    ((residual, _),) = fold_groups(layers.across)
    assert "layers.[0-2].norm.weight" in [member.name for member in residual.members]


def test_every_layer_stands_alone_when_asked_for(net, traced):
    trace = traced(net(3))
    layers = sort_into_layers(trace.report, trace.shapes, every_layer=True).layers
    assert [layer.title for layer in layers] == ["layers.0", "layers.1", "layers.2", "outside the layers"]


def test_a_layer_of_another_shape_stands_alone(net, traced):
    model = net(3)
    middle = model.layers[1]
    middle.gate, middle.up = nn.Linear(8, 24, bias=False), nn.Linear(8, 24, bias=False)
    middle.down = nn.Linear(24, 8, bias=False)
    trace = traced(model)
    titles = [layer.title for layer in sort_into_layers(trace.report, trace.shapes).layers]
    assert titles == ["layers.[0,2]", "layers.1", "outside the layers"]


def test_a_layer_that_lost_a_group_stands_alone(net, traced):
    trace = traced(net(3))
    gone = next(fold for fold in trace.report.folds if "layers.1." in fold.name)
    report = dataclasses.replace(trace.report, folds=tuple(f for f in trace.report.folds if f != gone))
    titles = [layer.title for layer in sort_into_layers(report, trace.shapes).layers]
    assert titles == ["layers.[0,2]", "layers.1", "outside the layers"]


def test_parameters_stand_in_the_order_of_the_calls(net, traced):
    model = net(1)
    layer = model.layers[0]
    layer.norm = layer._modules.pop("norm")  # now the last one by definition
    trace = traced(model)
    first = sort_into_layers(trace.report, trace.shapes).layers[0]
    assert first.parameters[0] == "layers.0.norm.weight"
    assert first.inside("layers.0.norm.weight") == "norm.weight"
