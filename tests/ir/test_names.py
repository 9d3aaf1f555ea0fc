"""Names: whatever a user's layer is called, generated files see identifiers and terminals see printable text."""

from __future__ import annotations

import keyword
import re
import subprocess
import unicodedata

import pytest
from conftest import needs_compiler
from hypothesis import given
from hypothesis import strategies as st

from flow.ir.names import (
    GENERATED,
    KEYWORDS,
    MAX_LENGTH,
    RESERVED,
    SYSTEM_VERILOG,
    VERILOG,
    VHDL,
    identifier,
    printable,
)


@given(st.text(max_size=80), st.sets(st.sampled_from(["dense", "op", "a", "op_int", "dense_2"])))
def test_every_text_becomes_an_identifier(name: str, taken: set[str]) -> None:
    found = identifier(name, taken)
    assert re.fullmatch(r"[a-z][a-z0-9_]*", found)
    assert len(found) <= MAX_LENGTH + 8
    assert found not in RESERVED
    assert found not in taken
    assert not GENERATED.fullmatch(found)


@pytest.mark.parametrize(
    "name",
    [
        *("int", "main", "module", "INPUT", "nnet", "layer2_out", "w2", "result_t", "config3", "2nd"),
        *("inside", "Design", "within", "co_await", "design", "po2flow_fifo", "defines", "parameters"),
    ],
)
def test_names_of_the_generated_files_are_not_taken(name: str) -> None:
    assert identifier(name, ()).startswith("op_")


def test_keywords_are_those_of_the_standards() -> None:
    assert (len(VERILOG), len(SYSTEM_VERILOG), len(VHDL)) == (124, 248, 117)
    assert all(word == word.lower() for word in KEYWORDS)


@needs_compiler
def test_no_macro_is_a_name() -> None:
    """A layer called `linux` would be the number 1."""
    headers = (f"-include{name}" for name in ("algorithm", "cassert", "cmath", "cstdio", "cstdlib", "iostream", "map"))
    command = ["g++", "-E", "-dM", "-x", "c++", *headers, "/dev/null"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    macros = re.findall(r"^#define ([a-z]\w*) ", text, re.M)
    assert "linux" in macros or "unix" in macros
    assert [name for name in macros if identifier(name, ()) == name] == []


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a/b", "..", "/", "C:\\x", "a\0b", "a\nb", "$(id)", '"; rm -rf /; "']
)
def test_paths_and_shell_text_are_taken_apart(name: str) -> None:
    assert not set(identifier(name, ())) & set("/.\\$()\";'\0\n ")


def test_equal_names_are_told_apart() -> None:
    names: list[str] = []
    for _ in range(12):
        names.append(identifier("n" * 500, names))
    assert len(set(names)) == 12
    assert all(len(name) <= MAX_LENGTH + 3 for name in names)


def test_the_result_stays_when_it_is_named_again() -> None:
    for name in ("dense", "op_int", "a_b", "conv2d_3"):
        assert identifier(name, ()) == name
        assert not keyword.iskeyword(name)


@given(st.text())
def test_printable_text_has_no_control_characters(text: str) -> None:
    found = printable(text)
    assert not [c for c in found if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    found.encode()


def test_printable_text_stays() -> None:
    assert printable("dense 'λ' → [1, 2]") == "dense 'λ' → [1, 2]"
    assert printable("a\nb\x1b\ud800") == r"a\nb\x1b\ud800"
    assert printable("a\nb\t", kept="\n") == "a\nb\\t"
