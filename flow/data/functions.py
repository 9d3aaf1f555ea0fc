"""Functions of the user's own Python code, by the text that names them: `my_nets.py:residual`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from flow.errors import FlowError, SpecError, shown
from flow.toml_table import Table

FORM = "expected 'file.py:function' or 'module:function'"


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSpec:
    """A function of the user, and what it is called with.

    Attributes:
        name: `file.py:function`, the file beside the spec, or `module:function`.
        arguments: by name.
        directory: where the spec is; modules are looked for there first.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    directory: Path = field(default=Path(), repr=False)

    def __post_init__(self) -> None:
        module, _, function = self.name.partition(":")
        if not module or not function.isidentifier():
            raise SpecError(f"function {shown(self.name)} names none", remedy=FORM)

    def call(self) -> Any:
        """Run the function, and return what it returns. It is the user's code: whatever it does is done.

        Raises:
            SpecError: it is not there, or failed.
        """
        module, _, function = self.name.partition(":")
        try:
            return getattr(self._module(module), function)(**self.arguments)
        except FlowError:
            raise
        except Exception as error:  # a user's code fails in any way
            what = f"function '{self.name}' failed ({type(error).__name__}: {shown(error)})"
            raise SpecError(what, remedy="mend it, or its arguments in the spec") from error

    def digest(self) -> str:
        """Return the SHA-256 of the file that holds the function; empty if it is a module from elsewhere."""
        file = self.directory / self.name.partition(":")[0]
        return sha256(file.read_bytes()).hexdigest() if file.is_file() else ""

    def _module(self, name: str) -> Any:
        if name.endswith(".py"):
            file = self.directory / name
            if not file.is_file():
                raise SpecError(f"function '{self.name}': there is no file {file}", remedy=FORM)
            found = importlib.util.spec_from_file_location(f"flow_own_{file.stem}", file)
            assert found is not None and found.loader is not None
            module = importlib.util.module_from_spec(found)
            sys.modules[found.name] = module  # dataclasses and pickles look their module up
            self._with_directory(lambda: found.loader.exec_module(module))
            return module
        return self._with_directory(lambda: importlib.import_module(name))

    def _with_directory(self, load: Any) -> Any:
        sys.path.insert(0, str(self.directory))
        try:
            return load()
        finally:
            sys.path.remove(str(self.directory))


def read_function(table: Table, directory: Path) -> FunctionSpec:
    """Return the function that a table names with `function`, and the arguments in its table `arguments`.

    Raises:
        SpecError: it names none.
    """
    name = table.text("function")
    arguments = table.table("arguments").data if table.has("arguments") else {}
    return FunctionSpec(name=name, arguments=arguments, directory=directory)
