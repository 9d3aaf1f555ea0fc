"""Names that are safe in C++, Verilog, Tcl, shells and file names.

Keras allows any text as a layer name; generated code sees only what `identifier` returns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_LENGTH = 40


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


VERILOG = _words(
    """
    always and assign automatic begin buf bufif0 bufif1 case casex casez cell cmos config deassign default defparam
    design disable edge else end endcase endconfig endfunction endgenerate endmodule endprimitive endspecify endtable
    endtask event for force forever fork function generate genvar highz0 highz1 if ifnone incdir include initial inout
    input instance integer join large liblist library localparam macromodule medium module nand negedge nmos nor
    noshowcancelled not notif0 notif1 or output parameter pmos posedge primitive pull0 pull1 pulldown pullup
    pulsestyle_ondetect pulsestyle_onevent rcmos real realtime reg release repeat rnmos rpmos rtran rtranif0 rtranif1
    scalared showcancelled signed small specify specparam strong0 strong1 supply0 supply1 table task time tran tranif0
    tranif1 tri tri0 tri1 triand trior trireg unsigned use uwire vectored wait wand weak0 weak1 while wire wor xnor xor
    """
)
"""Keywords of IEEE 1364-2005, Annex B."""
SYSTEM_VERILOG = VERILOG | _words(
    """
    accept_on alias always_comb always_ff always_latch assert assume before bind bins binsof bit break byte chandle
    checker class clocking const constraint context continue cover covergroup coverpoint cross dist do endchecker
    endclass endclocking endgroup endinterface endpackage endprogram endproperty endsequence enum eventually expect
    export extends extern final first_match foreach forkjoin global iff ignore_bins illegal_bins implements implies
    import inside int interconnect interface intersect join_any join_none let local logic longint matches modport
    nettype new nexttime null package packed priority program property protected pure rand randc randcase randsequence
    ref reject_on restrict return s_always s_eventually s_nexttime s_until s_until_with sequence shortint shortreal
    soft solve static string strong struct super sync_accept_on sync_reject_on tagged this throughout timeprecision
    timeunit type typedef union unique unique0 until until_with untyped var virtual void wait_order weak wildcard with
    within
    """
)
"""Keywords of IEEE 1800-2017 and 1800-2023, Annex B."""
VHDL = _words(
    """
    abs access after alias all and architecture array assert assume assume_guarantee attribute begin block body buffer
    bus case component configuration constant context cover default disconnect downto else elsif end entity exit
    fairness file for force function generate generic group guarded if impure in inertial inout is label library
    linkage literal loop map mod nand new next nor not null of on open or others out package parameter port postponed
    private procedure process property protected pure range record register reject release rem report restrict
    restrict_guarantee return rol ror select sequence severity shared signal sla sll sra srl strong subtype then to
    transport type unaffected units until use variable view vmode vprop vunit wait when while with xnor xor
    """
)
"""Keywords of IEEE 1076-2008 and 1076-2019, 15.10; VHDL does not tell upper case from lower case."""
CPP = _words(
    """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t char8_t class co_await
    co_return co_yield compl concept const const_cast consteval constexpr constinit continue decltype default delete do
    double dynamic_cast else enum explicit export extern false final float for friend goto if import inline int long
    module mutable namespace new noexcept not not_eq nullptr operator or or_eq override private protected public
    register reinterpret_cast requires return short signed sizeof static static_assert static_cast struct switch
    template this thread_local throw true try typedef typeid typename union unsigned using virtual void volatile wchar_t
    while xor xor_eq
    """
)
"""Keywords of ISO C++20, [lex.key], and the four identifiers with special meaning."""
KEYWORDS = SYSTEM_VERILOG | VHDL | CPP
OTHER_WORDS = _words(
    """
    abs accept acos asin atan atof atoi atol bind calloc ceil clock close connect cos cosh div dup erf errno exit exp
    fabs fclose fflush floor fmax fmin fmod fopen fork fprintf fputs free getc getenv gets hypot index isatty labs link
    listen log main malloc max memcpy memset min nan open pause pipe pow printf putc puts raise rand random read realloc
    remove rename rewind rint round scanf select send setenv signal sin sinh sleep sqrt srand stat stderr stdin stdout
    swap sync system tan tanh trunc unlink write y0 y1 yn j0 j1 jn
    linux unix major minor alloca offsetof softassert sched_priority math_errhandling
    nnet std hls ap_int ap_uint ap_fixed ap_ufixed taps sample values codes buffers inputs outputs result loaded_weights
    defines parameters supply vector access shared ac_int ac_fixed ac_channel
    """
)
"""Words of the C library and its macros, of the vendors' headers, and of the files that are generated besides."""
RESERVED = SYSTEM_VERILOG | CPP | OTHER_WORDS
"""What no op is called. Keywords of VHDL alone may be: only its inputs and its top give a project names as they are,
and either gets another one there."""
GENERATED = re.compile(r"(layer|config|input|result|w|b|s|x|y|po2flow)\d*(_.*)?|.*_t")
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
