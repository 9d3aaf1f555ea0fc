"""Topology: nested, shared, branched and damaged configurations, laid flat or refused."""

from __future__ import annotations

from typing import Any

import pytest

from flow.errors import UnsupportedError
from flow.frontend.keras.topology import MAX_CALLS, MAX_DEPTH, Topology, topology

Entry = dict[str, Any]


def layer(name: str, *nodes: tuple[str, ...], class_name: str = "Dense", **config: Any) -> Entry:
    """Return a layer as a Functional lists it; each node names what it reads, "a:1" for the second call of `a`."""
    calls = [[[*_source(source), {}] for source in node] for node in nodes]
    return {"class_name": class_name, "name": name, "config": {"name": name, **config}, "inbound_nodes": calls}


def _source(text: str) -> list[Any]:
    name, *numbers = text.split(":")
    return [name, *(int(number) for number in numbers), *[0] * (2 - len(numbers))]


def port(name: str) -> Entry:
    return layer(name, class_name="InputLayer", batch_input_shape=[None, 3])


def model(*layers: Entry, inputs: tuple[str, ...] = ("x",), outputs: tuple[str, ...] = ("out",)) -> Entry:
    return {
        "layers": list(layers),
        "input_layers": [_source(name) for name in inputs],
        "output_layers": [_source(name) for name in outputs],
    }


def inner(name: str, config: Entry, *nodes: tuple[str, ...], class_name: str = "Functional") -> Entry:
    return {**layer(name, *nodes, class_name=class_name), "config": {"name": name, **config}}


def text(found: Topology) -> list[str]:
    return [f"{call.name}({', '.join(call.inputs)})" for call in found.calls]


def functional(*layers: Entry, **ends: tuple[str, ...]) -> Topology:
    return topology("Functional", model(*layers, **ends))


def test_a_sequential_is_a_chain() -> None:
    config = {"layers": [port("in"), layer("a"), layer("b", class_name="qkeras>QDense")]}
    found = topology("Sequential", config)
    assert text(found) == ["in()", "a(in)", "b(a)"] and found.outputs == ("b",)
    assert [call.class_name for call in found.calls] == ["InputLayer", "Dense", "QDense"]
    assert [call.layer for call in found.calls] == ["in", "a", "b"]


@pytest.mark.parametrize("key", ["batch_input_shape", "batch_shape"])
def test_a_sequential_without_an_input_layer_gets_one(key: str) -> None:
    found = topology("Sequential", {"layers": [layer("a", **{key: [None, 5]})]})
    assert text(found) == ["input()", "a(input)"] and found.inputs[0].config["batch_shape"] == [None, 5]
    built = topology("Sequential", {"layers": [layer("a")], "build_input_shape": [None, 4]})
    assert built.inputs[0].config["batch_shape"] == [None, 4]


def test_branches_come_in_dataflow_order() -> None:
    found = functional(layer("out", ("b", "a"), class_name="Add"), layer("b", ("a",)), layer("a", ("x",)), port("x"))
    assert text(found) == ["x()", "a(x)", "b(a)", "out(b, a)"]


def test_inputs_and_outputs_have_the_order_of_the_model() -> None:
    found = functional(
        port("x"), port("y"), layer("a", ("x", "y"), class_name="Add"), layer("b", ("y",)),
        inputs=("y", "x"), outputs=("b", "a"),
    )  # fmt: skip
    assert [call.name for call in found.inputs] == ["y", "x"] and found.outputs == ("b", "a")


def test_a_single_end_needs_no_list() -> None:
    config = {**model(port("x"), layer("out", ("x",))), "input_layers": ["x", 0, 0], "output_layers": ["out", 0, 0]}
    assert text(topology("Functional", config)) == ["x()", "out(x)"]


def test_a_shared_layer_is_called_as_often_as_it_has_nodes() -> None:
    found = functional(
        port("x"), port("y"), layer("d", ("x",), ("y",)), layer("out", ("d:1", "d"), class_name="Add"),
        inputs=("x", "y"),
    )  # fmt: skip
    assert text(found) == ["x()", "y()", "d(x)", "d#2(y)", "out(d#2, d)"]
    assert {call.layer for call in found.calls} == {"x", "y", "d", "out"}


def test_a_layer_may_read_its_own_earlier_call() -> None:
    found = functional(port("x"), layer("d", ("x",), ("d",)), outputs=("d:1",))
    assert text(found) == ["x()", "d(x)", "d#2(d)"] and found.outputs == ("d#2",)


def test_what_no_output_needs_is_left_out() -> None:
    found = functional(port("x"), port("y"), layer("out", ("x",)), layer("idle", ("x",)), inputs=("x", "y"))
    assert text(found) == ["x()", "y()", "out(x)"], "but every port stays"


def test_models_in_models() -> None:
    body = model(port("p"), layer("a", ("p",)), layer("b", ("a",)), inputs=("p",), outputs=("b", "a"))
    chain = {"layers": [port("q"), layer("c")]}
    found = functional(
        port("x"),
        inner("body", body, ("x",)),
        inner("chain", chain, ("body:0:1",), class_name="Sequential"),
        layer("out", ("body", "chain"), class_name="Add"),
    )
    assert text(found) == ["x()", "body/a(x)", "body/b(body/a)", "chain/c(body/a)", "out(body/b, chain/c)"]


def test_a_shared_model_shares_its_layers() -> None:
    body = model(port("p"), layer("a", ("p",)), inputs=("p",), outputs=("a",))
    found = functional(port("x"), inner("body", body, ("x",), ("body",)), outputs=("body:1",))
    assert text(found) == ["x()", "body/a(x)", "body/a#2(body/a)"]
    assert [call.layer for call in found.calls] == ["x", "body/a", "body/a"]


def test_a_model_first_in_a_sequential_brings_the_port() -> None:
    body = {"layers": [port("in"), layer("a")]}
    nested = {"layers": [{"class_name": "Sequential", "config": {"name": "body", **body}}, layer("b")]}
    with_shape = {**nested, "build_input_shape": [None, 3]}
    assert text(topology("Sequential", with_shape)) == ["input()", "body/a(input)", "b(body/a)"]


def deep(levels: int) -> Entry:
    config: Entry = {"layers": [port("in"), layer("a")]}
    for _ in range(levels):
        config = {"layers": [port("in"), {"class_name": "Sequential", "config": {"name": "m", **config}}]}
    return config


DAMAGED: dict[str, tuple[str, Any, str]] = {
    "no layers": ("Sequential", {"layers": []}, "the model has no layers"),
    "nothing at all": ("Functional", {}, "the model has no layers"),
    "no layers inside": ("Sequential", {"layers": [port("in"), inner("m", {}, class_name="Sequential")]}, "m/ has no"),
    "unknown source": ("Functional", model(port("x"), layer("out", ("y",))), "layer 'out' reads 'y', which no layer"),
    "unknown call": ("Functional", model(port("x"), layer("out", ("x:1",))), "layer 'out' reads 'x', which no layer"),
    "cycle": ("Functional", model(port("x"), layer("out", ("a",)), layer("a", ("out",))), "which no layer before it"),
    "reads itself": ("Functional", model(port("x"), layer("out", ("out",))), "layer 'out' reads 'out'"),
    "unknown output": ("Functional", model(port("x"), layer("a", ("x",))), r"cannot be connected \(KeyError"),
    "unknown input": ("Functional", model(layer("out", ("x",))), r"cannot be connected \(KeyError: 'x'"),
    "second tensor": ("Functional", model(port("x"), layer("a", ("x",)), layer("out", ("a:0:1",))), "IndexError"),
    "no class": ("Sequential", {"layers": [port("in"), {"config": {"name": "a"}}]}, "KeyError: 'class_name'"),
    "no name": ("Sequential", {"layers": [port("in"), {"class_name": "Dense", "config": {}}]}, "KeyError: 'name'"),
    "no configuration": ("Sequential", {"layers": [{"class_name": "Dense"}]}, "KeyError: 'config'"),
    "layers are text": ("Sequential", {"layers": "abc"}, "cannot be connected"),
    "a layer is text": ("Sequential", {"layers": [port("in"), "abc"]}, "cannot be connected"),
    "Keras 3": (
        "Functional",
        model(port("x"), {**layer("out"), "inbound_nodes": [{"args": [], "kwargs": {}}]}),
        "cannot be connected",
    ),
    "too deep": ("Sequential", deep(MAX_DEPTH + 1), f"nested more than {MAX_DEPTH} deep"),
    "too many": ("Sequential", {"layers": [port("in"), *[layer("a")] * MAX_CALLS]}, f"more than {MAX_CALLS} layers"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_damage_is_refused(what: str) -> None:
    class_name, config, message = DAMAGED[what]
    with pytest.raises(UnsupportedError, match=message):
        topology(class_name, config)


def test_the_deepest_and_the_longest_models_that_pass() -> None:
    assert len(topology("Sequential", deep(MAX_DEPTH)).calls) == 2
    assert len(topology("Sequential", {"layers": [port("in"), *[layer("a")] * (MAX_CALLS - 1)]}).calls) == MAX_CALLS
