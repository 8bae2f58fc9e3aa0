"""What every metric asks of its input: finite scores, boolean labels, equal shapes, both classes present."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]


def to_numpy(values: Any) -> NDArray[Any]:
    """A NumPy view of a tensor, an array or a sequence; bfloat16, which NumPy lacks, becomes float32."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":
            values = values.float()
        return np.asarray(values.numpy())
    return np.asarray(values)


def check_scores(scores: Any, name: str = "scores") -> Floats:
    """Return ``scores`` as float32 or float64.

    Raises:
        ValueError: If a value is NaN or infinite.
    """
    array = to_numpy(scores)
    if not np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float64)
    # midpoints and sums need more bits than half precision has; nobody needs more than double
    array = array.astype(np.float32 if array.dtype.itemsize <= 4 else np.float64, copy=False)
    finite = np.isfinite(array)
    if not finite.all():
        bad = int(array.size - np.count_nonzero(finite))
        raise ValueError(f"`{name}` must be finite, got {bad} NaN or infinite values out of {array.size}")
    return array


def check_labels(labels: Any, name: str = "labels") -> Bools:
    """Return ``labels`` as booleans.

    Raises:
        ValueError: If a value is neither 0 nor 1 (a grey mask must be binarised by whoever knows its meaning).
    """
    array = to_numpy(labels)
    if array.dtype == np.bool_:
        return array
    result = array.astype(np.bool_)
    if not np.array_equal(result, array):
        odd = array[result != array].flat[0]
        raise ValueError(f"`{name}` must be booleans (or 0 and 1), got {odd!r}; pass e.g. {name} > 0")
    return result


def check_binary(scores: Any, labels: Any, names: tuple[str, str] = ("scores", "labels")) -> tuple[Floats, Bools]:
    """Return flat ``(scores, labels)``, both classes present.

    Raises:
        ValueError: If shapes differ, a score is not finite, a label not boolean, or only one class is present.
    """
    values, truth = check_scores(scores, names[0]), check_labels(labels, names[1])
    if values.shape != truth.shape:
        raise ValueError(
            f"`{names[0]}` and `{names[1]}` must have the same shape, got {values.shape} and {truth.shape}"
        )
    values, truth = values.ravel(), truth.ravel()
    positives = int(np.count_nonzero(truth))
    if positives in (0, truth.size):
        missing = "anomalous" if positives == 0 else "normal"
        raise ValueError(f"undefined: none of the {truth.size} `{names[1]}` is {missing}, both classes are needed")
    return values, truth
