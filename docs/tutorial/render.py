"""Run the notebooks beside this file, and write each as a page with its outputs and pictures.

pip install nbconvert ipykernel
python docs/tutorial/render.py [NAME.ipynb ...]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

HERE = Path(__file__).parent


def render(notebook: Path) -> None:
    """Write the page of a notebook; the notebook itself stays without outputs."""
    content = nbformat.read(notebook, as_version=4)
    with tempfile.TemporaryDirectory() as place:
        NotebookClient(content, timeout=None, resources={"metadata": {"path": place}}).execute()
    for cell in content.cells:
        if cell.cell_type == "code":  # bars of progress, and a page in a page, are not for a page
            kept = [output for output in cell.outputs if output.get("name") != "stderr"]
            cell.outputs = [output for output in kept if "Widget" not in str(output.get("data", ""))]
    name = notebook.stem
    text, resources = MarkdownExporter().from_notebook_node(content, {"unique_key": name, "output_files_dir": name})
    notebook.with_suffix(".md").write_text(text.strip() + "\n")
    for file, picture in resources["outputs"].items():
        (HERE / file).parent.mkdir(exist_ok=True)
        (HERE / file).write_bytes(picture)


if __name__ == "__main__":
    for given in map(Path, sys.argv[1:] or sorted(map(str, HERE.glob("*.ipynb")))):
        render(given)
