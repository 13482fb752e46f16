"""Training makes a model that passes its own gate, and refuses what it can't make one of."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from sklearn.ensemble import IsolationForest

from telemetryx import _native
from telemetryx.training import CheckFailed, Columns, TooLittleData, TrainingError, export
from telemetryx.training.check import check, check_operators, parity
from telemetryx.training.train import Options, Trained, fit

ROOT = Path(__file__).parents[3]


def test_a_trained_model_finds_a_fault_and_leaves_calm_hosts_alone(hosts: Any, trained: Trained) -> None:
    """The score of hosts that weren't trained on tells calm from a burst."""
    fleet = hosts.fleet(seed=12, steps=400, each=1)
    faulty = [(name, hosts.with_fault(levels, kind, "burst", 300, 330)) for name, kind, levels in fleet]
    _, device, _, matrix, ready = hosts.columns(faulty).features()
    scores = _native.evaluate(trained.onnx, matrix).astype(np.float64) / trained.threshold
    for number in range(len(faulty)):
        own, known = scores[device == number], ready[device == number]
        assert own[300:303].max() > 1.0
        assert np.mean(own[:300][known[:300]] > 1.0) < 0.01


def test_the_manifest_names_everything_an_agent_checks(trained: Trained) -> None:
    """Id, version, features, scaling, checksum."""
    assert _native.verify(trained.manifest, trained.onnx) == ("host", "2", trained.threshold)
    manifest = json.loads(trained.manifest)
    assert manifest["inputs"] == list(_native.FEATURE_NAMES)
    assert "| threshold of the distance |" in trained.card


def test_too_little_data_is_an_error_that_says_how_much_is_needed() -> None:
    """A quantile of 99.9 % of a hundred rows is nothing."""
    with pytest.raises(TooLittleData, match="100 rows of features are too few"):
        fit(np.zeros((100, 8), dtype=np.float32), Options())


def test_a_host_that_never_changes_still_gives_a_usable_model() -> None:
    """No feature varies: no division by zero, and a change is far out."""
    rows = np.zeros((3_000, 8), dtype=np.float32)
    rows[:, 0] = np.random.default_rng(1).normal(0, 1e-3, 3_000)
    model, threshold = fit(rows, Options())
    onnx_bytes = export.pca(model)
    scores = _native.evaluate(onnx_bytes, np.asarray([[0.0] * 8, [9.0] * 8], dtype=np.float32)) / threshold
    assert np.isfinite(scores).all()
    assert scores[0] < 1.0 < scores[1]


@pytest.mark.parametrize("name", ["autoencoder", "forest", "operators"])
def test_every_operator_gives_what_onnxruntime_gives(name: str) -> None:
    """The evaluator's test files hold all operators between them."""
    file = (ROOT / f"agent/crates/score/tests/models/{name}.onnx").read_bytes()
    rows = np.random.default_rng(2).normal(0, 3, (3_000, 6)).astype(np.float32)
    assert parity(file, rows).rows == 3_000


def test_an_exported_forest_decides_as_scikit_learn_does() -> None:
    """Thresholds are rounded down to float32, so that no row takes the other branch."""
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(2_000, 5)).astype(np.float32)
    fitted = IsolationForest(n_estimators=50, max_samples=128, random_state=1).fit(rows)
    ours = _native.evaluate(export.isolation_forest(fitted, 5), rows)
    assert np.max(np.abs(ours - -fitted.score_samples(rows))) < 1e-5
    assert export.round_down(0.1) <= 0.1


def test_a_model_with_an_operator_the_agent_lacks_is_not_published(trained: Trained) -> None:
    """The gate names the operator."""
    model = onnx.load_from_string(trained.onnx)
    model.graph.node.append(helper.make_node("Sin", ["distance"], ["other"], name="odd"))
    with pytest.raises(CheckFailed, match="doesn't have Sin"):
        check_operators(model.SerializeToString())
    with pytest.raises(CheckFailed, match="an agent would refuse"):
        check(b"{}", trained.onnx, np.zeros((1, 8), dtype=np.float32))


def test_columns_survive_their_file_and_a_wrong_file_is_an_error(calm: Columns, tmp_path: Path) -> None:
    """What a child process reads is what its parent wrote."""
    calm.save(tmp_path / "columns.npz")
    back = Columns.load(tmp_path / "columns.npz")
    assert back.names == list(calm.names)
    assert back.features()[3].tobytes() == calm.features()[3].tobytes()
    (tmp_path / "wrong.npz").write_bytes(b"no archive")
    with pytest.raises(TrainingError, match="isn't a file of columns"):
        Columns.load(tmp_path / "wrong.npz")


def test_the_child_process_trains_and_writes_three_files(calm: Columns, tmp_path: Path) -> None:
    """`python -m telemetryx.training` ends with 0 and one line of JSON, or with 1 and a reason."""
    calm.save(tmp_path / "columns.npz")
    command = [sys.executable, "-m", "telemetryx.training"]
    arguments = [str(tmp_path / "columns.npz"), str(tmp_path / "out"), "--id", "host", "--version", "3"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["worst"] <= 1e-5
    onnx_file, manifest = (
        (tmp_path / "out/model.onnx").read_bytes(),
        (tmp_path / "out/manifest.json").read_bytes(),
    )
    assert _native.verify(manifest, onnx_file)[:2] == ("host", "3")
    assert (tmp_path / "out/card.md").read_text().startswith("# Model host, version 3")
    arguments[0] = str(tmp_path / "nothing.npz")
    failed = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert failed.returncode == 1
    assert "training failed:" in failed.stderr
