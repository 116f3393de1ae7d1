import warnings

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

import vpbench.metrics.frechet as frechet_module
from vpbench.metrics.frechet import cubic_kernel, frechet, frechet_without, kernel_distances

SHAPES = [pytest.param(9, 40, id="n<d"), pytest.param(40, 40, id="n=d"), pytest.param(200, 40, id="n>d")]


def features(n, d, seed=0, change=0.3):
    """Paired features with a decaying spectrum: y is x with a disturbance and a shift."""
    rng = np.random.default_rng(seed)
    spectrum = np.arange(1, d + 1) ** -0.7
    x = rng.normal(size=(n, d)) * spectrum + 1
    return x, x + change * rng.normal(size=(n, d)) * spectrum + change / 5


def groups_of(n, size=2):
    return np.arange(n) // size


def kernel_distance(x, y, groups):
    return kernel_distances(x, y, groups)[0]


def kernel_distance_without(x, y, groups):
    return kernel_distances(x, y, groups)[1]


def moments(x):
    return x.mean(axis=0), np.cov(x, rowvar=False)


def with_scipy(x, y):
    (mx, sx), (my, sy) = moments(x), moments(y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sqrtm warns of singular matrices
        root = scipy.linalg.sqrtm(sx @ sy)
    return np.sum((mx - my) ** 2) + np.trace(sx) + np.trace(sy) - 2 * np.trace(root).real


def with_torch_eigvals(x, y):
    torch = pytest.importorskip("torch")
    (mx, sx), (my, sy) = moments(x), moments(y)
    values = torch.linalg.eigvals(torch.from_numpy(sx @ sy)).sqrt().real.sum().item()
    return np.sum((mx - my) ** 2) + np.trace(sx) + np.trace(sy) - 2 * values


def with_symmetric_eigh(x, y):
    (mx, sx), (my, sy) = moments(x), moments(y)
    values, vectors = np.linalg.eigh(sx)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    common = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ sy @ root), 0)).sum()
    return np.sum((mx - my) ** 2) + np.trace(sx) + np.trace(sy) - 2 * common


@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("other", [with_scipy, with_torch_eigvals, with_symmetric_eigh])
def test_frechet_agrees_with_other_forms(n, d, other):
    x, y = features(n, d)
    traces = np.trace(np.cov(x, rowvar=False)) + np.trace(np.cov(y, rowvar=False))
    assert frechet(x, y) == pytest.approx(other(x, y), abs=1e-5 * traces)


def test_frechet_agrees_with_another_form_in_1024_dimensions():
    x, y = features(60, 1024)
    assert frechet(x, y) == pytest.approx(with_symmetric_eigh(x, y), abs=1e-5 * 2 * x.var(axis=0).sum())


def test_frechet_of_diagonal_covariances_has_the_closed_form():
    # Rows +-s_i e_i have exactly the covariance 2 diag(s^2) / (n - 1) and mean 0.
    s, r, shift = np.array([3.0, 1.0, 0.5]), np.array([1.0, 2.0, 0.0]), np.array([1.0, -1.0, 2.0])
    x, y = np.vstack([np.diag(s), -np.diag(s)]), np.vstack([np.diag(r), -np.diag(r)]) + shift
    assert frechet(x, y) == pytest.approx(np.sum((s - r) ** 2) * 2 / 5 + np.sum(shift**2), rel=1e-12)
    assert frechet(x, y, ddof=0) == pytest.approx(np.sum((s - r) ** 2) * 2 / 6 + np.sum(shift**2), rel=1e-12)


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_equal_sets_have_distance_zero(n, d):
    x, _ = features(n, d)
    assert frechet(100 * x, 100 * x) == 0
    assert kernel_distance(x, x, groups_of(n)) == 0
    np.testing.assert_array_equal(frechet_without(x, x, groups_of(n)), 0)


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_order_of_rows_does_not_matter_and_almost_equal_sets_are_almost_zero(n, d):
    x, _ = features(n, d)
    assert frechet(x, x[::-1]) <= 1e-12


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), n=st.integers(2, 30), scale=st.floats(0.1, 50))
def test_laws_of_the_frechet_distance(seed, n, scale):
    x, y = features(n, 12, seed)
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(12, 12)))[0]
    value = frechet(x, y)
    assert value > 0
    assert frechet(y, x) == pytest.approx(value, rel=1e-8)
    assert frechet(x @ rotation + 3, y @ rotation + 3) == pytest.approx(value, rel=1e-6)
    assert frechet(scale * x, scale * y) == pytest.approx(scale**2 * value, rel=1e-8)


def test_more_noise_is_farther():
    values = [frechet(*features(50, 20, change=change)) for change in (0.1, 0.2, 0.4, 0.8)]
    assert values == sorted(values)


@pytest.mark.parametrize("n", [39, 40, 41])
def test_both_sides_of_n_equal_d_agree_with_zero_columns_added(n):
    # Zero columns change no distance but turn n > d into n < d.
    x, y = features(n, 40)
    wide = np.zeros((n, 60))
    assert frechet(np.hstack([x, wide]), np.hstack([y, wide])) == pytest.approx(frechet(x, y), rel=1e-9)


@pytest.mark.parametrize(("n", "d"), [*SHAPES, pytest.param(41, 40, id="singular without a group")])
def test_values_without_a_group_are_those_of_the_other_rows(n, d):
    x, y = features(n, d)
    groups = groups_of(n, 3)
    keeps = [groups != group for group in range(groups.max() + 1)]
    traces = x.var(axis=0).sum() + y.var(axis=0).sum()
    for ddof in (0, 1):
        np.testing.assert_allclose(
            frechet_without(x, y, groups, ddof), [frechet(x[keep], y[keep], ddof) for keep in keeps], rtol=0, atol=1e-6 * traces
        )
    rest = [kernel_distance(x[keep], y[keep], np.unique(groups[keep], return_inverse=True)[1]) for keep in keeps]
    np.testing.assert_allclose(kernel_distance_without(x, y, groups), rest, rtol=1e-9)


@pytest.mark.parametrize("dead", [0, 3])
def test_with_many_groups_the_change_is_the_first_term_of_the_exact_one(dead, monkeypatch):
    x, y = (np.hstack([rows, np.ones((len(rows), dead))]) for rows in features(3000, 12))  # dead features have no variance
    groups = np.repeat(np.arange(1200), np.tile([1, 2, 4, 3], 300))[:3000]
    exact = frechet_without(x, y, groups, 1)
    monkeypatch.setattr(frechet_module, "MOST_EXACT", 100)
    monkeypatch.setattr(frechet_module, "BLOCK", 257)
    expanded, whole = frechet_without(x, y, groups, 1), frechet(x, y)
    change = exact - whole
    np.testing.assert_allclose(expanded - whole, change, atol=np.abs(change).max() / 50)
    assert np.std(expanded) == pytest.approx(np.std(exact), rel=1e-3)


def test_rows_in_blocks_give_what_all_at_once_give(monkeypatch):
    x, y = features(400, 12)
    groups = groups_of(400, 3)
    at_once = frechet(x, y), frechet_without(x, y, groups), kernel_distance(x, y, groups), kernel_distance_without(x, y, groups)
    monkeypatch.setattr(frechet_module, "BLOCK", 7)
    monkeypatch.setattr(frechet_module, "PAIRS", 7)
    in_blocks = frechet(x, y), frechet_without(x, y, groups), kernel_distance(x, y, groups), kernel_distance_without(x, y, groups)
    for one, other in zip(at_once, in_blocks, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


def test_kernel_agrees_with_torchmetrics():
    torch = pytest.importorskip("torch")
    poly_mmd = pytest.importorskip("torchmetrics.image.kid").poly_mmd
    x, y = features(30, 20)
    kernel = cubic_kernel(x, y)
    # Theirs takes the pairs (i, i) into the mean of the mixed term, as if the sets were independent; ours leaves them out.
    unpaired = kernel_distance(x, y, np.arange(30)) + 2 * (kernel.sum() - np.trace(kernel)) / (30 * 29) - 2 * kernel.mean()
    assert unpaired == pytest.approx(poly_mmd(torch.from_numpy(x), torch.from_numpy(y)).item(), abs=1e-10)


def test_kernel_distance_leaves_out_pairs_inside_a_group():
    x, y = features(6, 5)
    groups = np.array([0, 0, 1, 1, 1, 2])
    full = cubic_kernel(x, x) + cubic_kernel(y, y) - cubic_kernel(x, y) - cubic_kernel(x, y).T
    assert kernel_distance(x, y, groups) == pytest.approx(full[groups[:, None] != groups].mean(), rel=1e-12)
    assert kernel_distance(y, x, groups) == pytest.approx(kernel_distance(x, y, groups), rel=1e-12)


def test_paired_kernel_distance_is_unbiased_in_small_sets():
    truth = np.mean(large := [kernel_distance(*features(1000, 30, seed), np.arange(1000)) for seed in range(8)])
    small = [kernel_distance(*features(9, 30, seed + 100), np.arange(9)) for seed in range(600)]
    error = np.hypot(np.std(small) / np.sqrt(len(small)), np.std(large) / np.sqrt(len(large)))
    assert abs(np.mean(small) - truth) < 3 * error
    assert error < 0.2 * truth  # or the test could not fail
