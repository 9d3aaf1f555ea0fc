"""The space of a search: the `[search]` table of a spec, and the specs that its parameters make of that.

[search]
constraints = ["layers.tables2.units <= layers.tables1.units"]

[search.space]
layers.tables1.units = { low = 80, high = 240, step = 20 }
layers.hidden.kernel = [{ min_exponent = -3, max_exponent = 0 }, { values = "ternary" }]
bits = { keys = ["layers.relu1.format.frac_bits", "layers.relu2.format.frac_bits"], low = 1, high = 4 }
second = { keys = ["layers.hidden2", "layers.relu2"], choices = [true, false] }     # whether they are there
"""

from __future__ import annotations

import ast
import copy
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.errors import SpecError, shown
from flow.toml_table import Table, read_toml
from flow.train.spec import SEARCH

OBJECTIVES: Mapping[str, bool] = {"accuracy": True, "error": False, "luts": False, "latency": False, "energy": False}
"""What can be searched for -> whether more of it is better."""
DEFAULT_OBJECTIVES = ("accuracy", "luts")
SHORT, VALIDATION = 0.25, 0.2
"""The part of the epochs that a short training has, and of the samples that is held out, if the spec does not say."""
OF_FILES = ("net", "float", "data", "distill")
"""Tables whose texts may name files beside the spec."""
Value = int | float | str | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """What is varied.

    Attributes:
        name: of the parameter.
        keys: dotted keys of the spec that get its value; a key of a whole layer says whether that is there.
        choices: values to choose from, JSON types; empty for a range.
        low, high: ends of a range, both of which belong to it.
        step: between the numbers of a range; None for any number.
        log: whether the range is sampled by the logarithm.
    """

    name: str
    keys: tuple[str, ...]
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False

    @property
    def is_integer(self) -> bool:
        """Whether its range is of integers."""
        return not self.choices and isinstance(self.low, int) and isinstance(self.high, int)

    def labels(self) -> tuple[Value, ...]:
        """Return the choices as a database keeps them: a table or a list as Python writes it."""
        return tuple(each if isinstance(each, Value) else repr(each) for each in self.choices)

    def value(self, label: Value) -> Any:
        """Return the value that a label stands for."""
        return self.choices[self.labels().index(label)] if self.choices else label

    def label(self, value: Any) -> Value | None:
        """Return the label of a value of the spec; None if it does not belong to the space."""
        if self.choices:
            return self.labels()[self.choices.index(value)] if value in self.choices else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return None
        steps = (value - self.low) / (self.step or 1)
        on_grid = steps == round(steps) if self.is_integer or self.step else True
        return value if on_grid else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What a search varies, and what it is for.

    Attributes:
        document: the spec without its `[search]` table, and the fraction of samples held out.
        directory: where it lies.
        parameters: what is varied.
        constraints: comparisons of keys and parameters that a spec must meet.
        objectives: of `OBJECTIVES`.
        short: the part of the epochs after which a trial is judged; 0 for none.
    """

    document: Mapping[str, Any]
    directory: Path
    parameters: tuple[Parameter, ...]
    constraints: tuple[str, ...] = ()
    objectives: tuple[str, ...] = DEFAULT_OBJECTIVES
    short: float = SHORT

    def spec(self, values: Mapping[str, Value]) -> dict[str, Any]:
        """Return the spec that values of the parameters make, by their names; files are named by their full path.

        Raises:
            SpecError: a constraint is not met, or a key cannot be set.
        """
        made = copy.deepcopy(dict(self.document))
        absent = list[str]()
        for parameter in self.parameters:
            for key in parameter.keys:
                value = parameter.value(values[parameter.name])
                if not _is_layer(made, key):
                    put(made, key, value)
                elif not value:
                    absent.append(key)
        for key in absent:
            _remove(made, key)
        named = [each for each in self.parameters if each.keys != (each.name,)]
        given = {each.name: each.value(values[each.name]) for each in named}
        for constraint in self.constraints:
            if not holds(constraint, made, given):
                raise SpecError(f"constraint '{constraint}' is not met")
        for name in OF_FILES:
            if name in made:
                made[name] = _with_paths(made[name], self.directory)
        return made

    def own_values(self) -> dict[str, Value] | None:
        """Return the parameters' values in the spec as it is written; None if one of them is not in the space."""
        own = dict[str, Value]()
        for parameter in self.parameters:
            try:
                found = [True if _is_layer(self.document, key) else get(self.document, key) for key in parameter.keys]
            except SpecError:
                return None
            label = parameter.label(found[0]) if all(each == found[0] for each in found) else None
            if label is None:
                return None
            own[parameter.name] = label
        return own


def read_space(path: Path) -> Space:
    """Return the space of a spec.

    Raises:
        SpecError: it has no `[search]` table, or a key of that is unknown, missing or wrong.
    """
    table = read_toml(path)
    if not table.has(SEARCH):
        what = "it has no table [search]"
        raise SpecError(what, file=path, remedy="name keys and their ranges in [search.space], see docs/explore.md")
    document = {key: value for key, value in table.data.items() if key != SEARCH}
    try:
        return _read(table.table(SEARCH), document, path.parent.resolve())
    except SpecError as error:
        raise error.at(file=path) from None


def _read(search: Table, document: dict[str, Any], directory: Path) -> Space:
    given: dict[str, Any] = {}
    if search.has("objectives"):
        given["objectives"] = search.texts("objectives")
        for name in given["objectives"]:
            if name not in OBJECTIVES or given["objectives"].count(name) > 1:
                remedy = f"expected different ones of {', '.join(OBJECTIVES)}"
                raise SpecError(f"key 'search.objectives' is {shown(list(given['objectives']))}", remedy=remedy)
    if search.has("constraints"):
        given["constraints"] = search.texts("constraints")
    if search.has("short"):
        given["short"] = search.number("short", 0.0, 1.0)
    parameters = tuple(_parameters(search.table("space"), ""))
    search.close()
    if not parameters:
        raise SpecError("table 'search.space' is empty", remedy="name a key of the spec and its range")
    for parameter in parameters:
        for key in parameter.keys:
            _check_key(document, key, parameter)
    if isinstance(net := document.get("net"), dict):
        document["net"] = {"arguments": {}, **net}
    train = document.get("train")
    if isinstance(train, dict):
        document["train"] = {"validation": VALIDATION, **train}
    space = Space(document=document, directory=directory, parameters=parameters, **given)
    for constraint in space.constraints:
        holds(constraint, document, {parameter.name: parameter.keys[0] for parameter in parameters}, names_only=True)
    return space


def _parameters(table: Table, prefix: str) -> Iterator[Parameter]:
    """Yield the parameters of a table; tables within it continue the names."""
    for key, value in table.data.items():
        name = f"{prefix}.{key}" if prefix else key
        if isinstance(value, list):
            yield _choice(name, (name,), table.take(key, list, "a list"), table.key(key))
        elif isinstance(value, dict) and not _is_range(value):
            yield from _parameters(table.table(key), name)
        else:
            yield _range(name, table.table(key))


def _is_range(value: Mapping[str, Any]) -> bool:
    return any(key in value and not isinstance(value[key], dict) for key in ("low", "choices"))


def _choice(name: str, keys: tuple[str, ...], choices: Sequence[Any], where: str) -> Parameter:
    parameter = Parameter(name=name, keys=keys, choices=tuple(choices))
    if not choices or len(set(map(repr, choices))) < len(choices):
        raise SpecError(f"key '{where}' is {shown(list(choices))}", remedy="expected different values to choose from")
    return parameter


def _range(name: str, table: Table) -> Parameter:
    keys = table.texts("keys") if table.has("keys") else (name,)
    if table.has("choices"):
        parameter = _choice(name, keys, table.take("choices", list, "a list of values"), table.key("choices"))
        table.close()
        return parameter
    low, high = (table.take(key, (int, float), "a number") for key in ("low", "high"))
    step = table.take("step", (int, float), "a number above 0") if table.has("step") else None
    log = bool(table.take("log", bool, "true or false")) if table.has("log") else False
    table.close()
    whole = isinstance(low, int) and isinstance(high, int)
    if not low < high or (log and low <= 0):
        what = f"key '{table.where}' goes from {low} to {high}"
        raise SpecError(what, remedy="expected low below high" + (", and above 0 for log" if log else ""))
    if step is not None and (step <= 0 or step > high - low or log or (whole and not isinstance(step, int))):
        what = f"key '{table.key('step')}' is {step}"
        raise SpecError(what, remedy="expected a step within the range, of its kind, and not with log")
    if step is not None:  # the last number that a step reaches
        high = low + int((high - low) / step + 1e-9) * step
    return Parameter(name=name, keys=keys, low=low, high=high, step=step, log=log)


def _check_key(document: Mapping[str, Any], key: str, parameter: Parameter) -> None:
    """Refuse a key that is not in the spec, and a choice of a layer that is neither of both."""
    if key.startswith("net.arguments."):
        return  # of which the spec need not say the default
    found = get(document, key)
    if _is_layer(document, key):
        if not parameter.choices or set(parameter.choices) != {True, False}:
            what = f"'{key}' is a whole layer"
            raise SpecError(what, field=f"search.space.{parameter.name}", remedy="expected choices = [true, false]")
    elif isinstance(found, dict) and not parameter.choices:
        what = f"'{key}' is a table"
        raise SpecError(what, field=f"search.space.{parameter.name}", remedy="name one of its keys, or choices")


# -- keys of a document


def get(document: Mapping[str, Any], key: str) -> Any:
    """Return the value of a dotted key; a table of an array is named by its `name`, or that of a head by its `layer`.

    Raises:
        SpecError: there is none.
    """
    found: Any = document
    for part in key.split("."):
        found = _below(found, part)
        if found is None:
            what = f"there is no key '{key}' in the spec: nothing is called '{part}'"
            raise SpecError(what, remedy="write it as layers.NAME.KEY, train.KEY or net.arguments.NAME")
    return found


def _below(found: Any, part: str) -> Any:
    if isinstance(found, list):
        return next((each for each in found if part in (each.get("name"), each.get("layer"))), None)
    return found.get(part) if isinstance(found, dict) else None


def put(document: dict[str, Any], key: str, value: Any) -> None:
    """Set the value of a dotted key, whose table must be there.

    Raises:
        SpecError: it is not.
    """
    before, _, last = key.rpartition(".")
    table = get(document, before) if before else document
    if not isinstance(table, dict):
        raise SpecError(f"'{before}' is no table that '{last}' could be set in")
    table[last] = copy.deepcopy(value)


def _is_layer(document: Mapping[str, Any], key: str) -> bool:
    before, _, last = key.rpartition(".")
    return bool(before) and isinstance(get(document, before), list) and _below(get(document, before), last) is not None


def _remove(document: Mapping[str, Any], key: str) -> None:
    before, _, last = key.rpartition(".")
    rows = get(document, before)
    rows.remove(_below(rows, last))


def _with_paths(value: Any, directory: Path) -> Any:
    """Return a table in which files beside the spec have their full path: `my_nets.py:residual` too."""
    if isinstance(value, dict):
        return {key: _with_paths(each, directory) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_paths(each, directory) for each in value]
    if isinstance(value, str) and value:
        file, colon, rest = value.partition(":")
        if file and (directory / file).exists():
            return f"{directory / file}{colon}{rest}"
    return value


# -- constraints

OPERATORS: Mapping[type, Callable[[Any, Any], Any]] = {
    **{ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv},
    **{ast.Mod: operator.mod, ast.FloorDiv: operator.floordiv, ast.Eq: operator.eq, ast.NotEq: operator.ne},
    **{ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge},
}


class _AbsentError(Exception):
    """A layer that is named was left out."""


def holds(constraint: str, document: Mapping[str, Any], values: Mapping[str, Any], *, names_only: bool = False) -> bool:
    """Say whether a spec meets a constraint; one that names a layer that was left out is met.

    Args:
        constraint: a comparison of sums, products and numbers, keys of the spec and parameters: nothing is run.
        document: the spec.
        values: of parameters that have a name of their own, which comes before keys.
        names_only: only say whether it can be read and what it names is there.

    Raises:
        SpecError: it cannot be read, or has no value.
    """

    def of(node: ast.AST) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, Value):
            return node.value
        if isinstance(node, ast.Name | ast.Attribute):
            name = ast.unparse(node)
            try:
                return values[name] if name in values else get(document, name)
            except SpecError:
                if names_only:
                    raise
                raise _AbsentError from None
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
            return (operator.not_ if isinstance(node.op, ast.Not) else operator.neg)(of(node.operand))
        if isinstance(node, ast.BoolOp):
            parts = [of(each) for each in node.values]
            return all(parts) if isinstance(node.op, ast.And) else any(parts)
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            return OPERATORS[type(node.op)](of(node.left), of(node.right))
        if isinstance(node, ast.Compare) and all(type(each) in OPERATORS for each in node.ops):
            ends = [of(each) for each in (node.left, *node.comparators)]
            pairs = zip(node.ops, ends, ends[1:], strict=False)
            return all(OPERATORS[type(op)](left, right) for op, left, right in pairs)
        raise SpecError(f"constraint '{constraint}' holds {shown(ast.unparse(node))}", remedy=FORM)

    def names(node: ast.AST) -> None:
        if isinstance(node, ast.Name | ast.Attribute):
            of(node)
        else:
            for each in ast.iter_child_nodes(node):
                names(each)

    try:
        tree = ast.parse(constraint, mode="eval").body
        if names_only:
            names(tree)
            return True
        return bool(of(tree))
    except _AbsentError:
        return True
    except (SyntaxError, TypeError, ZeroDivisionError, ValueError) as error:
        raise SpecError(f"constraint '{constraint}' has no value ({shown(error)})", remedy=FORM) from error


FORM = "expected a comparison as layers.tables2.units <= layers.tables1.units, with + - * / // %, and, or, not"
