"""Names that are safe in C++, Verilog, Tcl, shells and file names.

Keras allows any text as a layer name; generated code sees only what `identifier` returns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_LENGTH = 40
_WORDS = """
    alignas alignof and asm assert assign auto begin bitand bitor bool break buf case catch char class compl concept
    const constexpr continue decltype default delete disable do double else end enum event explicit export extern false
    final float for force fork friend function generate goto if import include initial inline inout input int integer
    join localparam logic long macromodule module mutable namespace nand negedge new noexcept nor not operator or output
    override packed parameter posedge primitive private program protected public real reg register release repeat
    requires return shared short signed sizeof specify static string struct supply switch table task template this
    thread_local throw time tri true try type typedef typeid typename union unsigned using var vector virtual void
    volatile wait wand while wire wor xnor xor
    abs access accept acos asin atan atof atoi atol bind calloc ceil clock close connect cos cosh div dup erf errno exit
    exp fabs fclose fflush floor fmax fmin fmod fopen fork fprintf fputs free getc getenv gets hypot index isatty labs
    link listen log main malloc max memcpy memset min nan open pause pipe pow printf putc puts raise rand random read
    realloc remove rename rewind rint round scanf select send setenv signal sin sinh sleep sqrt srand stat stderr stdin
    stdout swap sync system tan tanh trunc unlink write y0 y1 yn j0 j1 jn
    nnet std hls ap_int ap_uint ap_fixed ap_ufixed taps sample values codes buffers inputs outputs result real
    loaded_weights
"""
RESERVED = frozenset(_WORDS.split())
"""Words of C++, Verilog, the C library, and of the files that this package and hls4ml generate."""
GENERATED = re.compile(r"(layer|config|input|result|w|b|s|x|y)\d*(_.*)?|.*_t")
"""Shapes of the names that hls4ml makes itself: variables like `layer2_out` and `w2`, types like `result_t`."""


def identifier(name: str, taken: Iterable[str]) -> str:
    """Return `name` in lower case, made an identifier that is not reserved and not in `taken`.

    Example:
        >>> identifier("Dense 1;rm -rf", ["dense_1"])
        'dense_1_rm_rf'
    """
    cleaned = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:MAX_LENGTH].strip("_") or "op"
    if not cleaned[0].isalpha() or cleaned in RESERVED or GENERATED.fullmatch(cleaned):
        cleaned = f"op_{cleaned}"
    candidate, count, used = cleaned, 2, set(taken)
    while candidate in used:
        candidate, count = f"{cleaned}_{count}", count + 1
    return candidate


def printable(text: str, kept: str = "") -> str:
    r"""Return `text` with everything that is no visible character escaped, but for the characters in `kept`.

    Layer and file names may hold line breaks, terminal controls and halves of surrogate pairs.

    Example:
        >>> printable("red\x1b[31m")
        'red\\x1b[31m'
    """
    return "".join(c if c.isprintable() or c in kept else ascii(c)[1:-1] for c in text)
