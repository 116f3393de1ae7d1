"""VideoPainter and Cog-Inp beside the outputs of the article's code (made as tests/parity/fixtures/videopainter_upstream.txt says).

The second half deviates from it on purpose, one thing at a time: every deviation must be seen.
"""

from pathlib import Path

import numpy as np
import pytest

from tests.baselines.diffusion import tiny
from vpbench.baselines.diffusion import windows
from vpbench.baselines.diffusion.cogvideox import CogVideoX
from vpbench.baselines.diffusion.latent_blend import OFFICIAL_SEED, LatentBlend
from vpbench.baselines.diffusion.videopainter import VideoPainter

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
FIXTURE = Path(__file__).parents[2] / "parity" / "fixtures" / "videopainter_upstream.npz"
TOLERANCE = 1e-4

# name: frames, overlap, blend, previous weight
CASES = {
    "videopainter_one": (9, 0, True, 0.0),
    "videopainter_unblended": (9, 0, False, 0.0),
    "videopainter_two": (18, 0, True, 0.0),
    "videopainter_overlap_1": (17, 1, True, 0.0),
    "videopainter_overlap_5": (13, 5, True, 0.0),
    "videopainter_previous": (18, 0, True, 0.5),
    "cog_inp_one": (9, 0, True, 0.0),
    "cog_inp_unblended": (9, 0, False, 0.0),
    "cog_inp_two": (18, 0, True, 0.0),
    "adapter_one": (9, 0, True, 0.0),
    "adapter_two": (18, 0, True, 0.0),
    "adapter_two_previous": (18, 0, True, 0.5),
    "adapter_three_previous": (27, 0, True, 0.5),
}


@pytest.fixture(scope="module")
def upstream():
    with np.load(FIXTURE, allow_pickle=False) as file:
        return dict(file)


@pytest.fixture
def make(checkpoints, backbone_options):
    """Run a case; keywords change the backbone or the model."""

    def run(name, model=None, **changes):
        frames, overlap, blend, weight = CASES[name]
        options = {**backbone_options, "compat": "official", **changes}
        if name.startswith("cog_inp"):
            backbone = CogVideoX(**options)
        else:
            adapter = str(checkpoints / "adapter.safetensors") if name.startswith("adapter") else None
            backbone = VideoPainter(**{"branch": str(checkpoints / "branch"), "adapter": adapter, "previous_weight": weight, **options})
        blender = LatentBlend(backbone, blend=blend, compat="official", **(model or {}))
        video, masks, first = tiny.video(frames)
        seen, holes = [first, *video[1:]], masks.copy()
        holes[0] = False
        layout = windows.plan(frames, tiny.WINDOW, overlap, cover=False)
        latents = blender.latents(seen, holes, layout, torch.from_numpy(tiny.embeddings()), OFFICIAL_SEED)
        return latents, backbone

    return run


@pytest.mark.parametrize("name", CASES)
def test_latents_and_frames_are_those_of_the_articles_code(make, upstream, name):
    latents, backbone = make(name)
    np.testing.assert_allclose(latents, upstream[f"{name}_latents"], atol=TOLERANCE, rtol=0)
    pixels = backbone.decode(latents)[0, :, :, 5::16, 7::16]
    np.testing.assert_allclose(pixels, upstream[f"{name}_pixels"], atol=TOLERANCE, rtol=0)
