"""What needs Keras 2, run in a process of its own where this one's TensorFlow came with Keras 3."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from flow.errors import FlowError
from flow.files import temporary
from flow.toolchain import run_tool
from flow.train import OtherKerasError

ASKED, ANSWER = "asked.pickle", "answer.pickle"
Given = ParamSpec("Given")
Result = TypeVar("Result")


def with_keras_2(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Return a function of a module that runs where Keras 2 is; arguments and result can be pickled."""

    @wraps(function)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except OtherKerasError:
            return _apart(function.__module__, function.__name__, args, kwargs)  # type: ignore[no-any-return]

    return call


def _apart(module: str, name: str, args: Any, kwargs: Any) -> Any:
    with temporary() as scratch:
        (scratch / ASKED).write_bytes(pickle.dumps((module, name, args, kwargs)))
        run_tool([sys.executable, "-m", "flow.train.apart", str(scratch)], Path.cwd())
        answer = pickle.loads((scratch / ANSWER).read_bytes())
    if isinstance(answer, FlowError):
        raise answer
    return answer


def _answer(scratch: Path) -> None:
    module, name, args, kwargs = pickle.loads((scratch / ASKED).read_bytes())
    try:
        answer = getattr(import_module(module), name)(*args, **kwargs)
    except FlowError as error:
        answer = error
    (scratch / ANSWER).write_bytes(pickle.dumps(answer))


if __name__ == "__main__":
    _answer(Path(sys.argv[1]))
