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
MOST_EXACT = 2000  # groups; beyond, the distances without each are expansions
BLOCK = 65536  # rows in float64 at once
PAIRS = 2048  # rows whose pairs are in memory at once
NOTHING = 1e-12  # of the largest variance: a direction in which nothing varies


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


def frechet_distances(x: NDArray[np.floating], y: NDArray[np.floating], groups: Groups, ddof: int = 1) -> tuple[float, Floats]:
    """Return ``frechet`` and, of at least 3 groups, ``frechet_without``."""
    whole = frechet(x, y, ddof)
    return whole, frechet_without(x, y, groups, ddof, whole) if groups[-1] > 1 else np.empty(0)


def frechet_without(x: NDArray[np.floating], y: NDArray[np.floating], groups: Groups, ddof: int = 1, whole: float | None = None) -> Floats:
    """Return the Fréchet distance without each group of rows in turn.

    With more rows than dimensions the covariances are updated instead of computed anew; where they are singular that costs half of
    the digits (1e-7 of the traces). Beyond ``MOST_EXACT`` groups the change is the first term of its expansion in the moments, which are
    themselves exact (the infinitesimal jackknife, Efron 1982): what is left out of a change is then about the groups-th part of it.

    Args:
        x: (n, d).
        y: (n, d).
        groups: (n,) the group of each row, numbered from 0 and ascending; at least 2 groups, and 2 rows outside each.
        ddof: as for ``frechet``.
        whole: the distance of all rows, where it is known.

    Returns:
        (groups,) distances.
    """
    ends = np.append(np.flatnonzero(np.diff(groups)) + 1, len(groups))
    parts = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    if np.array_equal(x, y):
        return np.zeros(len(parts))
    if len(x) <= x.shape[1]:
        return np.array([frechet(np.delete(x, part, axis=0), np.delete(y, part, axis=0), ddof) for part in parts])
    centre_x, centre_y = x.mean(axis=0, dtype=np.float64), y.mean(axis=0, dtype=np.float64)
    scatter_x, scatter_y = _scatter(x, centre_x), _scatter(y, centre_y)
    if len(parts) > MOST_EXACT:
        covariances = scatter_x / (len(x) - ddof), scatter_y / (len(y) - ddof)
        slope_x, slope_y = _slope(*covariances), _slope(*covariances[::-1])
        mean_x, change_x = _changes(x, centre_x, scatter_x, slope_x, ends, ddof)
        mean_y, change_y = _changes(y, centre_y, scatter_y, slope_y, ends, ddof)
        apart = centre_x - centre_y
        moved = ((apart + mean_x - mean_y) ** 2).sum(axis=1) - apart @ apart
        expanded: Floats = np.maximum((frechet(x, y, ddof) if whole is None else whole) + moved + change_x + change_y, 0.0)
        return expanded
    found = []
    for part in parts:
        mean_x, root_x = _moments_without(x[part] - centre_x, len(x), scatter_x, ddof)
        mean_y, root_y = _moments_without(y[part] - centre_y, len(y), scatter_y, ddof)
        found.append(_distance(centre_x + mean_x, root_x, centre_y + mean_y, root_y))
    return np.array(found)


def kernel_distances(x: NDArray[np.floating], y: NDArray[np.floating], groups: Groups) -> tuple[float, Floats]:
    """Return the paired kernel distance of two sets of features, and the distances without each group of rows in turn.

    Takes time that grows with the square of the rows, and no memory to speak of.

    Args:
        x: (n, d).
        y: (n, d), row i belonging to row i of ``x``.
        groups: (n,) the group of each row, numbered from 0 and ascending; at least 2 groups.

    Returns:
        An unbiased estimate, so sometimes below 0 and exactly 0 for equal sets; and (groups,) of them, empty for 2 groups.
    """
    sums = np.zeros(len(x))  # of the pairs of each row with those of other groups
    for mine in range(0, len(x), PAIRS):  # some at a time: all pairs at once may not fit into memory
        for others in range(mine, len(x), PAIRS):
            here, there = slice(mine, mine + PAIRS), slice(others, others + PAIRS)
            a, b, c, d = (rows.astype(np.float64) for rows in (x[here], y[here], x[there], y[there]))
            pairs = cubic_kernel(a, c) + cubic_kernel(b, d) - cubic_kernel(a, d) - cubic_kernel(b, c)
            pairs[groups[here, None] == groups[there]] = 0.0
            sums[here] += pairs.sum(axis=1)
            if others > mine:
                sums[there] += pairs.sum(axis=0)
    sizes = np.bincount(groups)
    of_group, counts = np.bincount(groups, weights=sums), sizes * (len(x) - sizes)
    distance = float(of_group.sum() / counts.sum())
    if len(sizes) < 3:
        return distance, np.empty(0)
    return distance, (of_group.sum() - 2 * of_group) / (counts.sum() - 2 * counts)  # pairs are symmetric


def cubic_kernel(a: Floats, b: Floats) -> Floats:
    """Return ``(a_i . b_j / d + 1)^3`` for the rows of (n, d) and (m, d), as (n, m)."""
    base = a @ b.T / a.shape[1] + 1
    kernel: Floats = base * base * base
    return kernel


def _blocks(rows: int) -> list[slice]:
    return [slice(start, min(start + BLOCK, rows)) for start in range(0, rows, BLOCK)]


def _moments(x: NDArray[np.floating], ddof: int) -> tuple[Floats, Floats]:
    """The mean, and a matrix ``A`` of at most d rows with ``A^T A`` the covariance."""
    mean = x.mean(axis=0, dtype=np.float64)
    root = np.empty((0, x.shape[1]))
    for block in _blocks(len(x)):
        root = np.concatenate([root, (x[block] - mean) / np.sqrt(len(x) - ddof)])
        if len(root) > x.shape[1]:
            root = np.asarray(np.linalg.qr(root, mode="r"))  # A = QR, and Q changes no singular value of a product
    return mean, root


def _scatter(x: NDArray[np.floating], centre: Floats) -> Floats:
    total: Floats = np.zeros((x.shape[1], x.shape[1]))
    for block in _blocks(len(x)):
        rows = x[block] - centre
        total += rows.T @ rows
    return total


def _moments_without(rows: Floats, n: int, scatter: Floats, ddof: int) -> tuple[Floats, Floats]:
    """``_moments`` of n rows of mean 0 without ``rows``, from the scatter matrix of all."""
    rest = n - len(rows)
    mean = -rows.sum(axis=0) / rest
    covariance = (scatter - rows.T @ rows - rest * np.outer(mean, mean)) / (rest - ddof)
    values, vectors = np.linalg.eigh(covariance)
    root: Floats = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    return mean, root


def _slope(covariance: Floats, other: Floats) -> Floats:
    """The derivative of the distance by a covariance: 1 - T, T the optimal map from its Gaussian to the other (Dowson and Landau 1982).

    Directions in which nothing varies are left out of T.
    """
    values, vectors = np.linalg.eigh(covariance)
    root = np.sqrt(np.where(values > NOTHING * values[-1], values, 0.0))
    inverse = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
    middle, turned = np.linalg.eigh((vectors * root).T @ other @ (vectors * root))
    halves = (vectors * inverse) @ turned * np.sqrt(np.sqrt(np.maximum(middle, 0.0)))
    slope: Floats = np.eye(len(covariance)) - halves @ halves.T
    return slope


def _changes(
    x: NDArray[np.floating], centre: Floats, scatter: Floats, slope: Floats, ends: NDArray[np.intp], ddof: int
) -> tuple[Floats, Floats]:
    """What leaving each group out changes: the mean, (groups, d), and the inner product of the covariance with ``slope``, (groups,)."""
    sums, squares = np.zeros((len(ends), x.shape[1])), np.zeros(len(ends))
    number = np.searchsorted(ends, np.arange(len(x)), side="right")
    for block in _blocks(len(x)):
        rows, of = x[block] - centre, number[block]
        first = np.flatnonzero(np.diff(of, prepend=-1))
        sums[of[first]] += np.add.reduceat(rows, first)
        squares[of[first]] += np.add.reduceat(((rows @ slope) * rows).sum(axis=1), first)
    rest = len(x) - np.diff(ends, prepend=0)
    means = -sums / rest[:, None]
    inside = float((slope * scatter).sum())
    covariance = (inside - squares - rest * ((means @ slope) * means).sum(axis=1)) / (rest - ddof)
    return means, covariance - inside / (len(x) - ddof)


def _distance(mean_x: Floats, root_x: Floats, mean_y: Floats, root_y: Floats) -> float:
    apart = mean_x - mean_y
    common = np.linalg.svd(root_x @ root_y.T, compute_uv=False).sum()
    return max(0.0, float(apart @ apart + (root_x**2).sum() + (root_y**2).sum() - 2 * common))
