"""Distances between two sets of feature vectors: the Fréchet distance and the paired kernel distance; smaller is better.

Pure NumPy functions in float64 on features (n, d), row i of both sets belonging to the same piece of video. Rows that come from one
clip form a group: the kernel distance leaves pairs inside a group out, and the values without one clip (delete-one-clip jackknife)
leave its whole group out.

Fréchet distance (Heusel et al. 2017 for images, Unterthiner et al. 2018 for videos) between Gaussians of mean m and covariance S:
``|m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr((S1 S2)^(1/2))``. With ``S = A^T A`` the last trace is the sum of the singular values of
``A1 A2^T``. That is exact for any n and d, also where the covariances are singular, and needs no square root of a matrix.

Kernel distance (Binkowski et al. 2018): squared maximum mean discrepancy with the kernel ``(a.b / d + 1)^3``. Its usual estimator is
unbiased for independent sets only; a prediction and its reference are not independent, so this is the paired U-statistic, the mean
over rows i, j of different groups of ``k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(y_i, x_j)``.

Checked against scipy, torch and torchmetrics in ``tests/metrics/test_frechet.py``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Groups = NDArray[np.int64]


def frechet(x: NDArray[np.floating], y: NDArray[np.floating], ddof: int = 1) -> float:
    """Return the Fréchet distance of two sets of features.

    Args:
        x: (n, d), at least 2 rows.
        y: (m, d), at least 2 rows.
        ddof: the covariance divides by ``n - ddof``.

    Returns:
        A value of at least 0, in squared units of the features; 0 for equal sets.

    >>> frechet(np.array([[0.0], [2.0]]), np.array([[3.0], [5.0]]))
    9.0
    """
    if np.array_equal(x, y):
        return 0.0  # also where rounding would leave 1e-16 of large traces
    return _distance(*_moments(x, ddof), *_moments(y, ddof))


def frechet_without(x: NDArray[np.floating], y: NDArray[np.floating], groups: Groups, ddof: int = 1) -> Floats:
    """Return the Fréchet distance without each group of rows in turn.

    With more rows than dimensions the covariances are updated instead of computed anew; where they are singular that costs half of
    the digits (1e-7 of the traces).

    Args:
        x: (n, d).
        y: (n, d).
        groups: (n,) the group of each row, numbered from 0; at least 2 groups, and 2 rows outside each.
        ddof: as for ``frechet``.

    Returns:
        (groups,) distances.
    """
    outs = [groups == group for group in range(int(groups.max()) + 1)]
    if len(x) <= x.shape[1] or np.array_equal(x, y):
        return np.array([frechet(x[~out], y[~out], ddof) for out in outs])
    centre_x, centre_y = x.mean(axis=0, dtype=np.float64), y.mean(axis=0, dtype=np.float64)
    rows_x, rows_y = x - centre_x, y - centre_y
    scatter_x, scatter_y = rows_x.T @ rows_x, rows_y.T @ rows_y
    found = []
    for out in outs:
        mean_x, root_x = _moments_without(rows_x, scatter_x, out, ddof)
        mean_y, root_y = _moments_without(rows_y, scatter_y, out, ddof)
        found.append(_distance(centre_x + mean_x, root_x, centre_y + mean_y, root_y))
    return np.array(found)


def kernel_distance(x: NDArray[np.floating], y: NDArray[np.floating], groups: Groups) -> float:
    """Return the paired kernel distance of two sets of features.

    Args:
        x: (n, d).
        y: (n, d), row i belonging to row i of ``x``.
        groups: (n,) the group of each row, numbered from 0; at least 2 groups.

    Returns:
        An unbiased estimate, so sometimes below 0; exactly 0 for equal sets.
    """
    sums, counts = _pair_sums(x, y, groups)
    return float(sums.sum() / counts.sum())


def kernel_distance_without(x: NDArray[np.floating], y: NDArray[np.floating], groups: Groups) -> Floats:
    """Return the (groups,) paired kernel distances without each of at least 3 groups of rows in turn."""
    sums, counts = _pair_sums(x, y, groups)
    without: Floats = (sums.sum() - 2 * sums.sum(axis=1)) / (counts.sum() - 2 * counts.sum(axis=1))  # both are symmetric
    return without


def cubic_kernel(a: Floats, b: Floats) -> Floats:
    """Return ``(a_i . b_j / d + 1)^3`` for the rows of (n, d) and (m, d), as (n, m)."""
    base = a @ b.T / a.shape[1] + 1
    kernel: Floats = base * base * base
    return kernel


def _moments(x: NDArray[np.floating], ddof: int) -> tuple[Floats, Floats]:
    """The mean, and a matrix ``A`` of at most d rows with ``A^T A`` the covariance."""
    mean = x.mean(axis=0, dtype=np.float64)
    root = (x - mean) / np.sqrt(len(x) - ddof)
    if len(x) > x.shape[1]:
        root = np.linalg.qr(root, mode="r")  # A = QR, and Q changes no singular value of a product
    return mean, root


def _moments_without(x: Floats, scatter: Floats, out: NDArray[np.bool_], ddof: int) -> tuple[Floats, Floats]:
    """``_moments`` of the rows that are not in ``out``, from the scatter matrix of all; ``x`` has mean 0."""
    rows = x[out]
    rest = len(x) - len(rows)
    mean = -rows.sum(axis=0) / rest
    covariance = (scatter - rows.T @ rows - rest * np.outer(mean, mean)) / (rest - ddof)
    values, vectors = np.linalg.eigh(covariance)
    root: Floats = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    return mean, root


def _distance(mean_x: Floats, root_x: Floats, mean_y: Floats, root_y: Floats) -> float:
    apart = mean_x - mean_y
    common = np.linalg.svd(root_x @ root_y.T, compute_uv=False).sum()
    return max(0.0, float(apart @ apart + (root_x**2).sum() + (root_y**2).sum() - 2 * common))


def _pair_sums(x: NDArray[np.floating], y: NDArray[np.floating], groups: Groups) -> tuple[Floats, Groups]:
    """Sum and number of the pairs of rows of any two groups, both (groups, groups) with 0 on the diagonal."""
    sizes = np.bincount(groups)
    sums = np.zeros((len(sizes), len(sizes)))
    for group in range(len(sizes)):  # one at a time: all pairs at once may not fit into memory
        mine, later = groups == group, groups > group
        a, b, c, d = (rows.astype(np.float64) for rows in (x[mine], y[mine], x[later], y[later]))
        pairs = cubic_kernel(a, c) + cubic_kernel(b, d) - cubic_kernel(a, d) - cubic_kernel(b, c)
        sums[group] = np.bincount(groups[later], weights=pairs.sum(axis=0), minlength=len(sizes))
    counts = np.outer(sizes, sizes)
    np.fill_diagonal(counts, 0)
    return sums + sums.T, counts
