"""A top for those who write VHDL, and for catalogues of IP: a component with its wrapper, and IP-XACT."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, indent, register_namespace, tostring

from flow.backends.rtl.handover.interface import Interface
from flow.backends.rtl.handover.ports import Bus, TopPort

SPIRIT = "http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009"
LIBRARIES = {"axis": "interface", "aximm": "interface", "clock": "signal", "reset": "signal"}
"""Bus type of Vivado's catalogue -> its library (UG1118)."""
VERSION = "1.0"


def vhdl(name: str, ports: Sequence[TopPort]) -> str:
    """Return an entity `<name>_wrapper` that instantiates the Verilog, with its component in a package."""
    listed = ["aclk : in std_logic", "aresetn : in std_logic"]
    for port in ports:
        for signal, read, width in port.signals:
            kind = "std_logic" if width is None else f"std_logic_vector({width - 1} downto 0)"
            listed.append(f"{signal} : {'in' if read else 'out'} {kind}")
    declared = ";\n            ".join(listed)
    outer = ";\n        ".join(listed)
    connected = ",\n            ".join(f"{item.split()[0]} => {item.split()[0]}" for item in listed)
    return f"""-- Made by po2flow. The Verilog module {name} as a VHDL component, and an entity around it.
library ieee;
use ieee.std_logic_1164.all;

package {name}_package is
    component {name} is
        port (
            {declared}
        );
    end component;
end package;

library ieee;
use ieee.std_logic_1164.all;
use work.{name}_package.all;

entity {name}_wrapper is
    port (
        {outer}
    );
end entity;

architecture structure of {name}_wrapper is
begin
    net : {name}
        port map (
            {connected}
        );
end architecture;
"""


# ---------------------------------------------------------------------- IP-XACT 1685-2009, as Vivado reads it


def component(interface: Interface, sources: Sequence[str]) -> str:
    """Return `component.xml`: the ports, grouped into buses, and the files, whose paths are relative to it."""
    name, ports = interface.top, interface.ports
    register_namespace("spirit", SPIRIT)
    root = Element(_tag("component"))
    for tag, text in (("vendor", "po2flow"), ("library", "nets"), ("name", name), ("version", VERSION)):
        _add(root, tag, text)
    buses = _add(root, "busInterfaces")
    for port in ports:
        _bus(buses, port.name, port.bus, has_memory=bool(interface.registers))
    # no FREQ_HZ: a block design refuses an interface that states another one than that of the clock it is given
    clock = {"ASSOCIATED_BUSIF": ":".join(port.name for port in ports), "ASSOCIATED_RESET": "aresetn"}
    _bus(buses, "aclk", Bus(kind="clock", roles={"CLK": "aclk"}, parameters=clock))
    _bus(buses, "aresetn", Bus(kind="reset", roles={"RST": "aresetn"}, parameters={"POLARITY": "ACTIVE_LOW"}))
    if interface.registers:
        _memory(_add(root, "memoryMaps"), ports[0].name, interface.registers)
    model = _add(root, "model")
    _views(_add(model, "views"), name)
    listed = _add(model, "ports")
    for signal, read, width in (("aclk", True, None), ("aresetn", True, None), *(s for p in ports for s in p.signals)):
        _wire(listed, signal, read, width)
    _file_sets(_add(root, "fileSets"), sources, f"constraints/{name}.xdc")
    _add(root, "description", f"Neural network {name}, integer arithmetic, {interface.title}")
    _parameter(_add(root, "parameters"), "Component_Name", f"{name}_v1_0")
    indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(root, encoding="unicode")}\n'


def _tag(name: str) -> str:
    return f"{{{SPIRIT}}}{name}"


def _add(parent: Element, tag: str, text: str | None = None, **attributes: str) -> Element:
    element = SubElement(parent, _tag(tag), {_tag(key): value for key, value in attributes.items()})
    element.text = text
    return element


def _parameter(parent: Element, name: str, value: object) -> None:
    parameter = _add(parent, "parameter")
    _add(parameter, "name", name)
    _add(parameter, "value", str(value))


def _bus(parent: Element, name: str, bus: Bus, *, has_memory: bool = False) -> None:
    """Add a bus interface: which of its logical signals is which port."""
    element = _add(parent, "busInterface")
    _add(element, "name", name)
    reference = {"vendor": "xilinx.com", "library": LIBRARIES[bus.kind], "version": "1.0"}
    _add(element, "busType", name=bus.kind, **reference)
    _add(element, "abstractionType", name=f"{bus.kind}_rtl", **reference)
    side = _add(element, "master" if bus.is_master else "slave")
    if has_memory:
        _add(side, "memoryMapRef", memoryMapRef=name)
    maps = _add(element, "portMaps")
    for logical, physical in bus.roles.items():
        pair = _add(maps, "portMap")
        _add(_add(pair, "logicalPort"), "name", logical)
        _add(_add(pair, "physicalPort"), "name", physical)
    own = _add(element, "parameters")
    for key, value in bus.parameters.items():
        _parameter(own, key, value)


def _memory(parent: Element, name: str, registers: Sequence[tuple[str, int, int, bool]]) -> None:
    """Add the registers behind a port; several words of one name are an array."""
    memory = _add(parent, "memoryMap")
    _add(memory, "name", name)
    block = _add(memory, "addressBlock")
    for tag, text in (("name", "registers"), ("baseAddress", "0"), ("range", "4096"), ("width", "32")):
        _add(block, tag, text)
    _add(block, "usage", "register")
    for register, word, words, is_read in registers:
        element = _add(block, "register")
        _add(element, "name", register)
        if words > 1:
            _add(element, "dim", str(words))
        for tag, text in (("addressOffset", hex(4 * word)), ("size", "32")):
            _add(element, tag, text)
        _add(element, "access", "read-only" if is_read else "write-only")


def _views(parent: Element, name: str) -> None:
    for view, use in (("synthesis", "synthesis"), ("behavioralsimulation", "simulation")):
        element = _add(parent, "view")
        _add(element, "name", f"xilinx_anylanguage{view}")
        _add(element, "envIdentifier", f":vivado.xilinx.com:{use}")
        _add(element, "language", "Verilog")
        _add(element, "modelName", name)
        for files in ("sources", *(("constraints",) if use == "synthesis" else ())):
            _add(_add(element, "fileSetRef"), "localName", files)


def _wire(parent: Element, name: str, read: bool, width: int | None) -> None:
    port = _add(parent, "port")
    _add(port, "name", name)
    wire = _add(port, "wire")
    _add(wire, "direction", "in" if read else "out")
    if width is not None:
        vector = _add(wire, "vector")
        _add(vector, "left", str(width - 1))
        _add(vector, "right", "0")


def _file_sets(parent: Element, sources: Sequence[str], constraints: str) -> None:
    files = _add(parent, "fileSet")
    _add(files, "name", "sources")
    for path in sources:
        file = _add(files, "file")
        _add(file, "name", path)
        _add(file, "fileType", "verilogSource")
    files = _add(parent, "fileSet")
    _add(files, "name", "constraints")
    file = _add(files, "file")
    _add(file, "name", constraints)
    _add(file, "userFileType", "xdc")
