"""ReVideo: Mou et al., "ReVideo: Remake a Video with Motion and Content Control", NeurIPS 2024, arXiv 2405.13865.

The user's checkout of MC-E/ReVideo in the user's environment, driven by ``revideo_driver.py``: the rectangle around the hole is made anew
from an edited first frame, in windows of 14 frames. That frame is an image inpainter's, run here. See docs/models/revideo.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vpbench.baselines.diffusion.backbones import COMPAT, clip_seed
from vpbench.baselines.diffusion.image_inpainters import ImageInpainter, first_frame
from vpbench.baselines.diffusion.latent_blend import OFFICIAL_SEED
from vpbench.baselines.diffusion.stages import Kept
from vpbench.baselines.external.checkout import Checkout, Files
from vpbench.check import Need
from vpbench.clip import MaskedClip
from vpbench.configuration import unknown_name
from vpbench.errors import ConfigError

ENTRIES = (
    "main/inference/sample_constant_motion.py",
    "main/inference/sample_single_region.py",
    "configs/inference/config_test.yaml",
    "utils/tools.py",
    "sgm/util.py",
)
FIRST = "first_edited.png"


class ReVideo(Checkout):
    """The model.

    Args:
        python: interpreter of ReVideo's environment.
        code: checkout of MC-E/ReVideo.
        image_inpainter: makes the edited first frame.
        ckpt: ReVideo's weights; relative paths are the checkout's.
        cotracker: checkout of facebookresearch/co-tracker.
        steps: denoising steps.
        compat: ``official`` draws the first frame with the article's seed, 42; ``none`` with one from the run's seed and the clip's name.
        seed: for ReVideo's own draws; None: the run's.
        timeout_s: per clip.
        env: variables on top of vpbench's environment.
        keep_jobs: keep the folders of all jobs.
    """

    version: ClassVar[int] = 1

    def __init__(
        self,
        python: str | None,
        code: str | None,
        image_inpainter: ImageInpainter,
        ckpt: str = "ckpt/model.ckpt",
        cotracker: str = "co-tracker",
        steps: int = 25,
        compat: str = "none",
        seed: int | None = None,
        timeout_s: float = 7200.0,
        env: Mapping[str, Any] | None = None,
        keep_jobs: bool = False,
    ) -> None:
        if steps < 1:
            raise ConfigError(f"steps={steps}: expected at least 1.")
        if compat not in COMPAT:
            raise unknown_name("compat", compat, COMPAT)
        self.image_inpainter, self.compat = image_inpainter, compat
        self._kept, self._first_sha256 = Kept(), ""
        parts = [
            Files(
                "ckpt",
                ckpt,
                code,
                licence="Stable Video Diffusion Non-Commercial Community License",
                get="hf download Adapter/ReVideo model.ckpt --local-dir DIR; name it: model.ckpt=DIR/model.ckpt",
            ),
            Files(
                "cotracker",
                cotracker,
                code,
                ("hubconf.py", "cotracker/predictor.py"),
                size="its weights, cotracker2.pth in torch's hub cache, 0.2 GB",
                licence="CC-BY-NC 4.0",
                get="git clone https://github.com/facebookresearch/co-tracker DIR (commit: docs/models); name it: model.cotracker=DIR",
            ),
        ]
        super().__init__(
            ["revideo_driver.py", "revideo_geometry.py"],
            "MC-E/ReVideo",
            {**{part.key: str(part.path) for part in parts}, "steps": steps},
            python=python,
            code=code,
            entries=ENTRIES,
            parts=parts,
            texts=[],
            notes=[
                f"first frame: {type(image_inpainter).__name__}'s, a part of this row is that model",
                "rectangle: all of it is made anew, not the hole alone",
                "windows: of 14 frames, each begins with the last frame of the one before",
            ],
            seed=seed,
            timeout_s=timeout_s,
            env=env,
            keep_jobs=keep_jobs,
        )

    def needs(self) -> list[Need]:
        """See ``Checkout``; and what the image inpainter needs."""
        return [*super().needs(), *(need.under("image_inpainter") for need in self.image_inpainter.needs())]

    def validate(self) -> None:
        """Refuse settings with which the image inpainter can make no picture.

        Raises:
            ConfigError: see there.
        """
        if callable(validate := getattr(self.image_inpainter, "validate", None)):
            validate()

    def fingerprints(self) -> dict[str, Any]:
        """See ``Checkout``; and those of the image inpainter."""
        return {**super().fingerprints(), "image_inpainter": self.image_inpainter.fingerprints()}

    def keep_in(self, folder: Path) -> None:
        """Keep first frames in ``folder``, besides jobs and logs."""
        super().keep_in(folder)
        self._kept.folder = Path(folder)

    def stages(self) -> dict[str, Any]:
        """What the program says of the last clip, and the sha256 of its first frame's pixels."""
        return {**super().stages(), "first_frame": {"sha256": self._first_sha256}}

    def release(self) -> None:
        """End the worker, and let go of the image inpainter's networks."""
        super().release()
        self.image_inpainter.release()

    def _pictures(self, clip: MaskedClip, seed: int) -> Mapping[str, NDArray[np.uint8]]:
        frame = (clip.frames if clip.source is None else clip.source)[0]
        hole, made = clip.masks[0], frame
        if hole.any():
            prompt = clip.region_caption.strip() or clip.caption.strip()
            drawn = OFFICIAL_SEED if self.compat == "official" else clip_seed(seed, clip.name)
            made = first_frame(self.image_inpainter, self._kept, frame, hole, prompt, seed=drawn, name=clip.name)
        self._first_sha256 = hashlib.sha256(made.tobytes()).hexdigest()
        return {FIRST: made}
