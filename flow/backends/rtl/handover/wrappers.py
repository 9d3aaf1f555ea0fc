"""A top for those who write VHDL, and for catalogues of IP: a component with its wrapper, and IP-XACT."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, indent, register_namespace, tostring

from flow.backends.rtl.handover.ports import Port

SPIRIT = "http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009"
LIBRARIES = {"axis": "interface", "clock": "signal", "reset": "signal"}
"""Bus type of Vivado's catalogue -> its library (UG1118)."""
VERSION = "1.0"


def vhdl(name: str, ports: Sequence[Port]) -> str:
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


def component(name: str, ports: Sequence[Port], sources: Sequence[str], clock_period_ns: float) -> str:
    """Return `component.xml`: the ports, grouped into buses, and the files, whose paths are relative to it."""
    register_namespace("spirit", SPIRIT)
    root = Element(_tag("component"))
    for tag, text in (("vendor", "po2flow"), ("library", "nets"), ("name", name), ("version", VERSION)):
        _add(root, tag, text)
    buses = _add(root, "busInterfaces")
    for port in ports:
        roles = {signal.rpartition("_")[2].upper(): signal for signal, _, _ in port.signals}
        _bus(buses, port.name, "axis", roles, {"TDATA_NUM_BYTES": port.bits // 8}, master=not port.is_input)
    frequency = round(1e9 / clock_period_ns)
    associated = ":".join(port.name for port in ports)
    clock = {"ASSOCIATED_BUSIF": associated, "ASSOCIATED_RESET": "aresetn", "FREQ_HZ": frequency}
    _bus(buses, "aclk", "clock", {"CLK": "aclk"}, clock)
    _bus(buses, "aresetn", "reset", {"RST": "aresetn"}, {"POLARITY": "ACTIVE_LOW"})
    model = _add(root, "model")
    _views(_add(model, "views"), name)
    listed = _add(model, "ports")
    for signal, read, width in (("aclk", True, None), ("aresetn", True, None), *(s for p in ports for s in p.signals)):
        _wire(listed, signal, read, width)
    _file_sets(_add(root, "fileSets"), sources, f"constraints/{name}.xdc")
    _add(root, "description", f"Neural network {name}, integer arithmetic, AXI4-Stream")
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


def _bus(
    parent: Element,
    name: str,
    kind: str,
    signals: dict[str, str],
    parameters: dict[str, object],
    *,
    master: bool = False,
) -> None:
    """Add a bus interface: which of its logical signals is which port."""
    bus = _add(parent, "busInterface")
    _add(bus, "name", name)
    reference = {"vendor": "xilinx.com", "library": LIBRARIES[kind], "version": "1.0"}
    _add(bus, "busType", name=kind, **reference)
    _add(bus, "abstractionType", name=f"{kind}_rtl", **reference)
    _add(bus, "master" if master else "slave")
    maps = _add(bus, "portMaps")
    for logical, physical in signals.items():
        pair = _add(maps, "portMap")
        _add(_add(pair, "logicalPort"), "name", logical)
        _add(_add(pair, "physicalPort"), "name", physical)
    own = _add(bus, "parameters")
    for key, value in parameters.items():
        _parameter(own, key, value)


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
