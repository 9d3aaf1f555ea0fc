"""Distillation: what a teacher says is a term of the loss; a training with one is resumed, and its teacher recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import REPOSITORY
from scipy.special import rel_entr, softmax

import flow
from flow.errors import InputError, SpecError, ToolMissingError
from flow.train import load_tensorflow, quiet_warnings

try:
    load_tensorflow()
except ToolMissingError as error:
    pytest.skip(str(error), allow_module_level=True)

from flow.frontend.trained import load_trained
from flow.train.artefacts import fingerprint
from flow.train.checkpoints import Checkpoint
from flow.train.distill import Teacher, load_teacher
from flow.train.heads import goals
from flow.train.spec import HeadSpec

_, keras, _ = load_tensorflow()
RNG = np.random.default_rng(5)
X, KINDS = RNG.uniform(0, 1, (96, 4)).astype(np.float32), RNG.integers(0, 3, 96)


def two_headed(shape: tuple[int, ...] = (4,), kinds: int = 3, activation: str | None = None) -> object:
    first = keras.Input(shape)
    flat = keras.layers.Flatten()(first)
    kind = keras.layers.Dense(kinds, activation=activation, name="kind")(flat)
    return keras.Model(first, [kind, keras.layers.Dense(1, name="size")(flat)], name="two_headed")


def one_headed() -> object:
    layers = (keras.layers.Dense(3, input_shape=(4,)), keras.layers.Dropout(0.1, name="dropout"))
    return keras.Sequential(layers, name="student")


def test_the_loss_is_that_of_labels_and_teacher() -> None:
    keras.utils.set_random_seed(1)
    model, teacher = two_headed(), two_headed((2, 2), activation="softmax")
    heads = (HeadSpec(layer="kind"), HeadSpec(layer="size", task="regression", weight=0.5))
    targets = {"kind": KINDS, "size": X[:, :1]}
    classes = {"kind": ("a", "b", "c"), "size": ()}
    data = SimpleNamespace(name="mine", y_train=targets, y_valid=None, y_test=targets, classes=classes.get)
    inputs = {"train": X, "valid": None, "test": X}
    learned = goals(heads, data, inputs, {"kind": (3,), "size": (1,)}, model="mine")
    with Teacher(teacher, flow.DistillSpec(teacher, temperature=3, weight=0.25), "").teaches(model, learned):
        model.compile(loss=[goal.loss() for goal in learned], loss_weights=[0.75, 0.375])
        found = model.test_on_batch(X, [KINDS, X[:, :1]], return_dict=True)["loss"]
    logits, sizes = model.predict(X, verbose=0)
    expected, wanted = teacher.predict(X.reshape(-1, 2, 2), verbose=0)
    of_labels = -np.log(softmax(logits, axis=1)[np.arange(96), KINDS]).mean()
    of_teacher = rel_entr(softmax(np.log(expected) / 3, axis=1), softmax(logits / 3, axis=1)).sum(axis=1).mean()
    of_sizes = 0.75 * np.square(sizes - X[:, :1]).mean() + 0.25 * np.square(sizes - wanted).mean()
    assert found == pytest.approx(0.75 * of_labels + 0.25 * 9 * of_teacher + 0.5 * of_sizes, rel=1e-5)
    assert "compute_loss" not in vars(model), "the model is as it was"


def test_hidden_layers_are_held_against_those_of_the_teacher() -> None:
    """One batch, and the two layers' tables of which samples are alike (arXiv:1907.09682), in NumPy."""
    keras.utils.set_random_seed(3)
    student, teacher = (
        keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(units, "relu", name=f"of_{name}"), keras.layers.Dense(3)]
        )
        for name, units in (("student", 5), ("teacher", 7))
    )
    data = SimpleNamespace(name="mine", y_train=KINDS, y_valid=None, y_test=KINDS, classes=lambda name: ("a", "b", "c"))
    head = HeadSpec(layer=student.output_names[0])
    learned = goals((head,), data, {"train": X, "valid": None, "test": X}, {head.layer: (3,)}, model="mine")
    losses = []
    for hidden in ({}, {"of_student": "of_teacher"}):
        spec = flow.DistillSpec(teacher, hidden=hidden, hidden_weight=2.5)
        with Teacher(teacher, spec, "").teaches(student, learned):
            student.compile(loss=[goal.loss() for goal in learned])
            losses.append(student.test_on_batch(X, KINDS))
    alike = []
    for model in (student, teacher):
        values = np.maximum(X @ model.layers[0].kernel.numpy() + model.layers[0].bias.numpy(), 0)
        products = values @ values.T
        alike.append(products / np.maximum(np.linalg.norm(products, axis=1, keepdims=True), 1e-12))
    expected = np.square(alike[0] - alike[1]).sum(axis=1).mean()
    assert expected > 0.01 and losses[1] - losses[0] == pytest.approx(2.5 * expected, rel=1e-4)
    assert "call" not in vars(student), "the model is as it was"
    for whose, wrong in (("net", {"of_nobody": "of_teacher"}), ("teacher", {"of_student": "of_nobody"})):
        message = f"distill.hidden: the {whose} has no layer 'of_nobody'; name layers of of_"
        taught = Teacher(teacher, flow.DistillSpec(teacher, hidden=wrong), "").teaches(student, learned)
        with pytest.raises(SpecError, match=message), taught:
            pass


def test_an_interrupted_distillation_ends_in_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keras.utils.set_random_seed(2)
    teacher, student = keras.Sequential([keras.layers.Dense(3, input_shape=(4,))], name="wide"), one_headed()
    teacher.save(tmp_path / "wide.keras")
    begin = student.get_weights()

    def train(directory: str, distill: flow.DistillSpec | None) -> flow.TrainedModel:
        student.set_weights(begin)
        return flow.train_model(
            student, tmp_path / directory, x=X, y=KINDS, epochs=2, learning_rate=0.1, distill=distill
        )

    of_file = flow.DistillSpec(tmp_path / "wide.keras", temperature=4, weight=0.9)
    whole, plain = train("whole", of_file), train("plain", None)
    assert whole.provenance["teacher"] == load_trained(tmp_path / "whole").provenance["teacher"]
    settings = {"temperature": 4, "weight": 0.9}
    assert whole.provenance["teacher"] == {"name": "wide", "digest": fingerprint(teacher), **settings}
    assert f"name wide, digest {fingerprint(teacher)}, temp" in (tmp_path / "whole" / "training.html").read_text()
    assert "teacher" not in plain.provenance and plain.digest() != whole.digest()
    save = Checkpoint.save

    def interrupted(self: Checkpoint, model: object, done: int, *rest: object) -> None:
        save(self, model, done, *rest)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train("parts", of_file)
    live = flow.DistillSpec(teacher, temperature=4, weight=0.9)
    assert train("parts", live).digest() == whole.digest(), "the same teacher, now a model of the session, goes on"
    stopped = (tmp_path / "parts" / "history.csv").read_text()
    assert stopped == (tmp_path / "whole" / "history.csv").read_text()


def test_a_spec_names_its_teacher(tmp_path: Path) -> None:
    text = 'name = "small"\ndescription = "for a test"\ndataset = "digits"\n[distill]\nteacher = "digits_mlp"\n'
    text += '[float]\ntopology = "autoencoder"\ntask = "reconstruction"\n[input]\nshape = [64]\n'
    text += "[train]\nepochs = 1\nbatch_size = 32\nlearning_rate = 0.01\nseed = 1\n"
    path = tmp_path / "spec.toml"
    path.write_text(text)
    spec = flow.load_spec(path)
    assert spec.distill == flow.DistillSpec("digits_mlp") and repr(spec.distill) in repr(spec)
    named = '[distill]\nhidden = { code = "relu1" }\nhidden_weight = 3'
    path.write_text(text.replace("[distill]", named))
    taught = flow.load_spec(path).distill
    assert taught == flow.DistillSpec("digits_mlp", hidden={"code": "relu1"}, hidden_weight=3)
    path.write_text(text)
    with pytest.raises(SpecError, match=r"output 'logits' of the teacher has shape \(10,\), that of the net \(64,\)"):
        flow.train_model(path, tmp_path)
    (tmp_path / "digits_mlp").mkdir()
    assert flow.load_spec(path).distill.teacher == tmp_path / "digits_mlp", "what stands beside the spec goes first"
    with pytest.raises(SpecError, match="holds no trained model; run 'flow train"):
        flow.train_model(path, tmp_path)
    for line, message in (
        ("weight = 1.5", "distill.weight is 1.5; expected a number above 0, 1 at most"),
        ("temperature = 0", "distill.temperature is 0.0; expected a number above 0"),
        ("hidden_weight = 0", "distill.hidden_weight is 0.0; expected a number above 0"),
        ("hidden = { a = 1 }", "'distill.hidden.a' is 1; expected"),
        ("layers = 1", "layers"),
    ):
        path.write_text(text.replace("[float]", f"{line}\n[float]"))
        with pytest.raises(SpecError, match=message):
            flow.load_spec(path)


@quiet_warnings()
def test_a_teacher_that_takes_samples_scaled_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, standard = flow.DistillSpec("digits_mlp"), {"scaling": "standard", "offset": [0.5], "divisor": [2.0]}
    with pytest.raises(SpecError, match="teacher: the teacher learned from samples scaled by 'none', the net "):
        load_teacher(spec, standard)
    kept = load_trained(REPOSITORY / "models" / "digits_mlp")
    scaled = replace(kept, provenance={**kept.provenance, "preparation": standard})
    monkeypatch.setattr("flow.train.distill.load_trained", lambda directory: scaled)
    assert load_teacher(spec, dict(standard)).preparation == standard
    with pytest.raises(SpecError, match="by 'standard', and fitted to other samples; train both with the same scaling"):
        load_teacher(spec, {**standard, "divisor": [3.0]})


@pytest.mark.parametrize(
    ("teacher", "message"),
    (
        (lambda: two_headed(), "the teacher has outputs kind, size, the net dropout"),
        (lambda: keras.Sequential([keras.layers.Dense(4, input_shape=(4,))]), r"shape \(4,\), that of the net \(3,\)"),
        (lambda: keras.Sequential([keras.layers.Dense(3, input_shape=(5,))]), r"of shape \(5,\), the net \(4,\)"),
        (lambda: keras.Sequential([keras.layers.Dense(3)]), "expected a built model of tf_keras with one input"),
        (lambda: 3, "with one input, not an object of class int"),
        (lambda: "no_model_of_this_name", "no model 'no_model_of_this_name'"),
    ),
)
def test_a_teacher_that_does_not_fit_is_refused(teacher: object, message: str, tmp_path: Path) -> None:
    distill = flow.DistillSpec(teacher())
    with pytest.raises(InputError, match=message):
        flow.train_model(one_headed(), tmp_path, x=X, y=KINDS, epochs=1, distill=distill)
