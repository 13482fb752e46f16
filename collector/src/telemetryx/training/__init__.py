"""Training: columns of samples in; an ONNX file, its manifest and its card out.

Features come from the agent's own code (`telemetryx._native`), so that a model sees in training what it will see on
the edge. scikit-learn fits, `export` writes the file with the evaluator's closed list of operators, `check` holds
it against onnxruntime and against the agent's evaluator. scikit-learn, onnx and onnxruntime are heavy: the collector
starts `python -m telemetryx.training` as a child process and imports none of them itself.
"""

from telemetryx.training.columns import Columns
from telemetryx.training.errors import CheckFailed, TooLittleData, TrainingError

__all__ = ["CheckFailed", "Columns", "TooLittleData", "TrainingError"]
