"""The comparisons with independent implementations, row by row: where each is made and within what tolerance.

A row fails when its test is gone or no longer holds the tolerance that is promised for it. The tests themselves are collected from
their own modules.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
# metric, independent implementation: file::test, the tolerance as it stands in that test (or in the module's constant)
ROWS = {
    "PSNR whole, scikit-image": ("metrics/test_psnr.py::test_agrees_with_scikit_image", "1e-9"),
    "PSNR whole and one-sided, torchmetrics": ("metrics/test_psnr.py::test_agrees_with_torchmetrics", "1e-5"),
    "MSE whole, scikit-image": ("metrics/test_mse_mae.py::test_mse_agrees_with_scikit_image", "1e-9"),
    "MSE, MAE whole and one-sided, torchmetrics": ("metrics/test_mse_mae.py::test_agrees_with_torchmetrics", "1e-7"),
    "SSIM Gaussian valid, scikit-image": ("metrics/test_ssim.py::test_agrees_with_scikit_image", "1e-9"),
    "SSIM Gaussian reflect whole and one-sided, torchmetrics": (
        "metrics/test_ssim.py::test_reflect_agrees_with_torchmetrics_whole_and_onesided",
        "1e-5",
    ),
    "SSIM Gaussian float32, float64": ("metrics/test_ssim.py::test_float32_stays_close_to_float64", "2e-6"),
    "SSIM window 65 and 7, scikit-image": ("metrics/test_ssim.py::test_uniform_windows_agree_with_scikit_image", "1e-9"),
    "LPIPS alex, squeeze, vgg, lpips and torchmetrics": ("metrics/test_lpips.py::test_agrees_with_lpips_and_torchmetrics", "RTOL = 1e-5"),
    "CLIP features, transformers": ("parity/test_clip_parity.py::test_features_agree_with_transformers_from_every_format", "1e-5"),
    "CLIP features, open_clip's own loader": ("parity/test_clip_parity.py::test_openai_files_load_as_open_clip_loads_them", "1e-5"),
    "CLIP preprocessing, transformers on Pillow": (
        "parity/test_clip_parity.py::test_pixels_are_those_of_transformers_on_pillow",
        "assert_array_equal",
    ),
    "CLIP preprocessing, transformers on torchvision": (
        "parity/test_clip_parity.py::test_pixels_are_within_one_level_of_transformers_on_torchvision",
        "<= 1",
    ),
    "CLIP score, VideoPainter": ("parity/test_clip_parity.py::test_clip_score_is_the_official_one", "1e-4"),
    "Temporal consistency, VideoPainter": ("parity/test_clip_parity.py::test_temporal_consistency_is_the_official_one", "1e-6"),
    "I3D logits, pytorch-i3d": ("parity/test_i3d_parity.py::test_class_scores_agree_with_pytorch_i3d", "1e-5"),
    "I3D pooled, pytorch-i3d": ("parity/test_i3d_parity.py::test_pooled_features_agree_with_pytorch_i3d", "1e-5"),
    "I3D training-mode form, pytorch-i3d in training": (
        "parity/test_i3d_parity.py::test_instance_norm_agrees_with_pytorch_i3d_in_training_mode",
        "1e-4",
    ),
    "VFID, VideoPainter": ("parity/test_i3d_parity.py::test_vfid_agrees_with_videopainter", "1e-4"),
    "Fréchet, SciPy sqrtm, torch eigvals, symmetric eigh": ("metrics/test_frechet.py::test_frechet_agrees_with_other_forms", "1e-5"),
    "FVD end to end, cd-fvd": ("parity/test_i3d_parity.py::test_fvd_agrees_with_cdfvd", "1e-4"),
    "KVD unpaired, torchmetrics poly_mmd": ("metrics/test_frechet.py::test_kernel_agrees_with_torchmetrics", "1e-10"),
    "PVCS, DEVIL": ("parity/test_i3d_parity.py::test_pvcs_agrees_with_devil", "1e-5"),
    "warp, integer translation": ("metrics/test_warping.py::test_a_translation_with_its_true_flow_has_no_error", "1e-10"),
    "warp, SciPy": ("metrics/test_warping.py::test_warp_agrees_with_scipy", "1e-10"),
    "warping error, DEVIL": ("parity/test_ewarp_parity.py::test_the_error_is_the_same", "2e-6"),
}


@pytest.mark.parametrize("row", ROWS)
def test_the_row_is_tested_within_its_tolerance(row: str) -> None:
    where, tolerance = ROWS[row]
    file, _, name = where.partition("::")
    source = (TESTS / file).read_text()
    found = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == name]
    assert len(found) == 1, f"{where} is gone"
    text = source if " = " in tolerance else ast.get_source_segment(source, found[0])
    assert text is not None
    assert tolerance in text
