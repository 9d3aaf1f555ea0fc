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


class FlowError(Exception):
    """An error a user can act on; its message says what, where, what was found and what to do."""

    exit_code = 2

    def at(self, where: str) -> "FlowError":
        """Return the same error with `where` put before its message (stage boundaries add context once)."""
        return type(self)(f"{where}: {self}")


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
