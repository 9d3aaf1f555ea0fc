"""The exceptions of this package, one tree; each class carries the exit code of the command line.

FlowError
|- InputError                2  what the user gave cannot be used
|  |- SpecError                 a model spec, option or target is wrong
|  |- ModelFileError            a model file is missing, damaged, or holds code
|  |- UnsupportedError          a layer, quantizer or value has no exact integer form
|  |- DataError                 inputs or labels have the wrong shape, type or values
|  `- PreflightError            several things at once, one line for each
|- OutputError               2  the output directory cannot be written
|- EmitError                 4  the generated project does not say what the graph says
|- ToolMissingError          3  a program, package or data set is absent or too old
`- ToolFailedError           4  a program ran and failed
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import SupportsIndex

LONGEST_SHOWN = 120
"""Most characters of a foreign value in a message: a file may name a layer in 100,000."""
PRINTED_ALONE = ("file", "table", "model", "field", "tool")
"""Kinds of places whose name says enough."""


def shown(value: object) -> str:
    """Return a foreign value for a message: as Python writes it, an error as it says itself, cut where it is long.

    Example:
        >>> shown("two\\nlines"), len(shown([0] * 100_000))
        ("'two\\\\nlines'", 143)
    """
    try:
        text = " ".join(str(value).split()) if isinstance(value, Exception) else repr(value)
    except (ValueError, RecursionError):  # Python writes no integer of more than 4300 digits
        return f"a value of type {type(value).__name__} that is too long to write"
    return shortened(text)


def shortened(text: str, longest: int = LONGEST_SHOWN) -> str:
    """Return a foreign text, cut where it is long."""
    return text if len(text) <= longest else f"{text[:longest]}... ({len(text)} characters)"


def counted(count: SupportsIndex, one: str, many: str = "") -> str:
    """Return a number with what it counts; `many` are `one` with an "s" if nothing else is said.

    Example:
        >>> counted(1, "input"), counted(2048, "input"), counted(0, "value is", "values are")
        ('1 input', '2048 inputs', '0 values are')
    """
    return f"{count} {one if count == 1 else many or f'{one}s'}"


class FlowError(Exception):
    """An error a user can act on: what is wrong, where, and what to do, joined when it is printed.

    A refusal that is collected rather than raised is the same error, in a list.

    Args:
        what: what is wrong and what was found.
        remedy: what to do; empty if there is nothing to say.
        named: the op or layer that `what` names itself.
        where: places, the outermost first: kind -> name. A place of `PRINTED_ALONE` is printed as it is, of any other
            kind with that kind, and a `class_name` belongs to the place before it.

    Example:
        >>> error = UnsupportedError("has 3 axes", layer="fc", class_name="QDense", remedy="use Flatten")
        >>> print(error.at(model="net"))
        net: layer 'fc' (QDense): has 3 axes; use Flatten
    """

    exit_code = 2

    def __init__(self, what: str, *, remedy: str = "", named: str = "", **where: object) -> None:
        super().__init__(what)
        self.what, self.remedy, self.named, self.where = what, remedy, named, tuple(where.items())

    def at(self, **where: object) -> FlowError:
        """Return the same error with places around those that it has, unless the outermost is of that kind already."""
        places = tuple(where.items())
        said = [kind for kind, _ in self.where[:1]] == [kind for kind, _ in places[:1]]
        error = type(self).__new__(type(self), *self.args)
        vars(error).update(vars(self), where=self.where if said else places + self.where)
        return error

    def advised(self, more: str) -> FlowError:
        """Return the same error with more to do about it."""
        error = self.at()
        error.remedy = "; ".join(filter(None, (self.remedy, more)))
        return error

    @property
    def op(self) -> str:
        """The op, layer or output that it is about, the outermost; empty if it is the whole."""
        return next((str(name) for kind, name in self.where if kind in ("op", "layer", "output")), self.named)

    @property
    def reason(self) -> str:
        """Where within the model and what, without what to do."""
        return self._joined("model")

    def _joined(self, *left_out: str) -> str:
        parts: list[str] = []
        for kind, name in self.where:
            if kind == "class_name":
                parts[-1] += f" ({shortened(str(name))})"
            elif kind not in left_out:
                said = str(name) if kind == "file" else shortened(str(name))
                parts.append(said if kind in PRINTED_ALONE else f"{kind} '{said}'")
        return ": ".join([*parts, self.what])

    def __str__(self) -> str:
        return f"{self._joined()}; {self.remedy}" if self.remedy else self._joined()


@contextmanager
def at(**where: object) -> Iterator[None]:
    """Put places around what is refused inside: a stage boundary says once where it is.

    Raises:
        FlowError: the one raised inside.
    """
    try:
        yield
    except FlowError as error:
        raise error.at(**where) from None


class InputError(FlowError):
    """What the user gave cannot be used."""


class SpecError(InputError):
    """A model spec, an option or a target is wrong."""


class ModelFileError(InputError):
    """A model file is missing, damaged, not a Keras model, or holds code that we do not run."""


class UnsupportedError(InputError):
    """A layer, a quantizer or a value has no exact integer form here."""


class DataError(InputError):
    """Inputs or labels have the wrong shape, type, length or values."""


class PreflightError(InputError):
    """Several things of a model or a target cannot be used; the message has a line for each."""

    def __init__(self, refusals: Sequence[FlowError]) -> None:
        self.refusals = tuple(refusals)
        super().__init__("\n".join([f"{len(refusals)} things are in the way", *(f"  {each}" for each in refusals)]))


class OutputError(FlowError):
    """The output directory cannot be written."""


class EmitError(FlowError):
    """The generated project does not say what the graph says."""

    exit_code = 4


class ToolMissingError(FlowError):
    """A program, a Python package or a data set is absent or too old."""

    exit_code = 3


class ToolFailedError(FlowError):
    """A program ran and failed."""

    exit_code = 4
