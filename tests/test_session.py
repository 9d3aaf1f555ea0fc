"""Models and arrays of a Python session: built like files, predicted with, shown."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import needs_compiler
from fixtures_keras import dense, keras, layers, qkeras, sequential

import flow
from flow.data.session import as_arrays
from flow.errors import DataError, ModelFileError, SpecError
from flow.ir.fixed import to_values
from flow.ir.graph import IntGraph
from flow.train import load_tensorflow, quiet_warnings

SAMPLES = 60


@quiet_warnings()
def two_layers() -> Any:
    cast, relu = (qkeras.QActivation(name) for name in ("quantized_bits(8,0,alpha=1)", "quantized_relu(6,2)"))
    model = sequential((5,), cast, dense(6, "hidden"), relu, dense(3, "scores"))
    model._name = "session"
    return model


def samples() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 0.99, (SAMPLES, 5)), rng.integers(0, 3, SAMPLES)


def options(output: Path, **more: Any) -> flow.BuildOptions:
    return flow.BuildOptions(output=output, adversarial=16, **more)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, flow.BuildOptions, Any]:
    model, given = two_layers(), options(tmp_path_factory.mktemp("session"))
    x, y = samples()
    return model, given, flow.build(model, options=given, x=x, y=y)


@needs_compiler
def test_a_live_model_and_arrays_are_built(built: tuple[Any, flow.BuildOptions, Any]) -> None:
    model, given, report = built
    assert report.bit_exact and report.document["verdict"]["samples"] == SAMPLES
    x, y = samples()
    model.compile("adam", "mse")  # only what inference needs is kept of a model
    assert flow.build(model, options=given, x=x, y=y).run_dir == report.run_dir
    batches = load_tensorflow().tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    assert flow.build(model, options=given, x=batches).run_dir == report.run_dir
    assert repr(report) == f"<Report of session: BIT EXACT, {report.run_dir}>"
    assert report._repr_html_().startswith('<iframe srcdoc="&lt;!DOCTYPE html&gt;')


@needs_compiler
def test_predictions_are_those_of_the_hardware(built: tuple[Any, flow.BuildOptions, Any]) -> None:
    model, _, report = built
    x = samples()[0][:7]
    values, codes = report.predict(x), report.predict(x, codes=True)
    assert codes.dtype.kind == "i" and np.array_equal(report.predict(x, level="csim", codes=True), codes)
    assert np.array_equal(values, model.predict(x, verbose=0))  # exact in float32 at this size
    traced = report.trace(x)
    assert [*traced] == [row["name"] for row in report.document["layers"]] and np.array_equal(traced["scores"], values)
    fmt = flow.FixedFormat.from_json(report.document["layers"][-1]["output_format"])
    assert np.array_equal(to_values(codes, fmt), values)
    assert np.array_equal(report.predict(x * 4), model.predict(x * 4, verbose=0))  # whose quantizer clamps
    with pytest.raises(SpecError, match="level: 'rtlsim' is no level; use one of reference, csim; "):
        report.predict(x, level="rtlsim")
    with pytest.raises(DataError, match=r"argument 'x': has shape \(7, 4\)"):
        report.predict(x[:, :4])


def test_what_only_the_port_clamps_is_told(tmp_path: Path) -> None:
    model = sequential((5,), dense(3, "scores"))
    report = flow.build(model, options=options(tmp_path, until="emit", input_format="fixed<8,1>"))
    with pytest.warns(UserWarning, match=r"^5 values of x are beyond the input's format ap_fixed<8,1.*clamped$"):
        report.predict(np.full((1, 5), 2.0))


@needs_compiler
def test_parts_of_a_report_are_frames(built: tuple[Any, flow.BuildOptions, Any]) -> None:
    report = built[2]
    assert list(report.frame("layers")["name"]) == [row["name"] for row in report.document["layers"]]
    assert list(report.frame("resources")["source"]) == ["static", "static_csynth"]
    assert report.frame("accuracy")["hardware"][0] == report.document["accuracy"]["hardware"]
    with pytest.raises(SpecError, match="'ops' is no part; use one of layers, resources, accuracy"):
        report.frame("ops")


class Inside(keras.Model):  # type: ignore[misc]
    def call(self, inputs: Any) -> Any:
        return inputs


@pytest.mark.parametrize(
    ("model", "data", "error", "message"),
    [
        (two_layers, {"x": "abc"}, DataError, "argument 'x': is no array (str); give an array"),
        (two_layers, {"x": [[1.0], [2.0, 3.0]]}, DataError, "argument 'x': is no array (list)"),
        (two_layers, {"x": np.full((2, 5), np.nan)}, DataError, "argument 'x': 10 values are NaN or infinite"),
        (
            two_layers,
            {"x": np.zeros((2, 4))},
            DataError,
            "argument 'x': has shape (2, 4)",
        ),
        (two_layers, {"x": np.zeros((2, 5)), "y": [0, 3]}, DataError, "argument 'y': labels are 0 to 3"),
        (two_layers, {"x": np.zeros((2, 5)), "y": [0]}, DataError, "argument 'y': 1 labels for 2 samples"),
        (Inside, {}, ModelFileError, "inside: Keras cannot save it"),
        (dict, {}, SpecError, "model: expected a Keras model or where one is, not an object of class dict"),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_argument(
    model: Any, data: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match="^" + re.escape(message)):
        flow.build(model(), options=options(tmp_path), **data)


@pytest.mark.parametrize("elements", [np.arange(9), {"a": {"b": np.zeros((4, 5))}}])
def test_data_sets_that_give_no_arrays_are_refused(elements: Any, tmp_path: Path) -> None:
    data = load_tensorflow().tf.data.Dataset.from_tensor_slices(elements)
    data = data.batch(2) if isinstance(elements, dict) else data
    with pytest.raises(DataError, match=r"argument 'x': gives no batches of arrays .*batch it, as for model\.fit"):
        flow.build(two_layers(), options=options(tmp_path), x=data)
    quantized = flow.QuantizeOptions(output=tmp_path)
    with pytest.raises(DataError, match="argument 'calibration': gives no batches of arrays"):
        flow.quantize(two_layers(), options=quantized, calibration=data)


def test_an_argument_and_an_option_do_not_say_the_same_twice(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="'x' and the option 'inputs' were both given"):
        flow.build(two_layers(), options=options(tmp_path, inputs=tmp_path / "x.npy"), x=samples()[0])


@quiet_warnings()
def test_several_inputs_come_by_their_names(tmp_path: Path) -> None:
    first, second = layers.Input((3,), name="first"), layers.Input((2,), name="second")
    quantized = [qkeras.QActivation("quantized_bits(6,0,alpha=1)")(each) for each in (first, second)]
    model = keras.Model([first, second], dense(2, "scores")(layers.Concatenate()(quantized)), name="joined")
    x = {"first": np.zeros((4, 3)), "second": np.ones((4, 2)) / 2}
    given = options(tmp_path, until="emit")
    assert flow.build(model, options=given, x=x).predict(x).shape == (4, 2)
    with pytest.raises(DataError, match="argument 'x': a single array; the model has several inputs"):
        flow.build(model, options=given, x=x["first"])


def test_pandas_frames_are_arrays() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    assert as_arrays(frame).tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert as_arrays({"p": frame["a"]}, 1)["p"].tolist() == [1.0]
    with pytest.raises(DataError, match="is an array of object, not of numbers"):
        as_arrays(pandas.DataFrame({"a": ["x"]}))


KERAS_3 = """
import sys
from pathlib import Path
import keras, numpy as np
import tensorflow
parts = keras.Input((4,)), keras.layers.Dense(3, activation="tanh"), keras.layers.Dense(2)
model = keras.Sequential(parts, name="k3")
import flow
x = np.linspace(0, 1, 80).reshape(20, 4)
report = flow.quantize(model, x=x, calibration=x, options=flow.QuantizeOptions(output=Path(sys.argv[1]), until="emit"))
print(keras.__version__, report.predict(x).shape)
"""


def test_a_live_model_of_keras_3_is_quantized_where_tensorflow_came_with_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KERAS_3, str(tmp_path)], capture_output=True, text=True, check=False, timeout=300
    )
    assert re.fullmatch(r"3\.\S+ \(20, 2\)\n", done.stdout), done.stderr


def test_type_checkers_see_every_name_that_is_loaded_late() -> None:
    tree = ast.parse(Path(str(flow.__file__)).read_text())
    seen = next(node for node in tree.body if isinstance(node, ast.If))
    names = {alias.asname for node in seen.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assigned = {
        target.id
        for node in seen.body
        if isinstance(node, ast.Assign)
        for target in ast.walk(node.targets[0])
        if isinstance(target, ast.Name)
    }  # type: ignore[attr-defined]
    assert (names | assigned) - {None} == set(flow.__all__)
    assert flow.IntGraph is IntGraph and (Path(str(flow.__file__)).parent / "py.typed").exists()
