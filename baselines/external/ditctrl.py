"""DiTCtrl as a video editor: Cai et al., "DiTCtrl: Exploring Attention Control in Multi-Modal Diffusion Transformer for Tuning-Free
Multi-Prompt Longer Video Generation", arXiv 2412.18597.

The user's checkout of TencentARC/DiTCtrl in the user's environment, driven by ``ditctrl_driver.py``: word swap between a clip's source and
target captions. It makes both videos up: the clip itself never enters. See docs/models/ditctrl.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from vpbench.baselines.external.checkout import Checkout, Files
from vpbench.errors import ConfigError

ENTRIES = ("sat/sample_video_edit.py", "sat/arguments.py", "sat/configs/cogvideox_2b.yaml", "sat/configs/inference.yaml")
WEIGHTS = (
    "transformer/latest",
    "transformer/1000/mp_rank_00_model_states.pt|transformer/1/mp_rank_00_model_states.pt",
    "vae/3d-vae.pt",
    "t5-v1_1-xxl/config.json",
    "t5-v1_1-xxl/spiece.model",
    "t5-v1_1-xxl/model-00001-of-00002.safetensors|t5-v1_1-xxl/model.safetensors",
    "t5-v1_1-xxl/model-00002-of-00002.safetensors|t5-v1_1-xxl/model.safetensors",
)


class DiTCtrl(Checkout):
    """The model.

    Args:
        python: interpreter of DiTCtrl's environment.
        code: checkout of TencentARC/DiTCtrl.
        weights: folder with CogVideoX-2B in the "sat" layout and its T5; relative paths are the checkout's.
        share_steps: first and last step at which the target video takes keys and values of the source video.
        share_layers: first and last layer that does so.
        seed: for draws; None: the run's.
        timeout_s: per clip.
        env: variables on top of vpbench's environment.
        keep_jobs: keep the folders of all jobs.
    """

    version: ClassVar[int] = 1

    def __init__(
        self,
        python: str | None,
        code: str | None,
        weights: str = "sat/CogVideoX-2b-sat",
        share_steps: Sequence[int] = (2, 25),
        share_layers: Sequence[int] = (25, 30),
        seed: int | None = None,
        timeout_s: float = 7200.0,
        env: Mapping[str, Any] | None = None,
        keep_jobs: bool = False,
    ) -> None:
        for name, pair in (("share_steps", share_steps), ("share_layers", share_layers)):
            if len(pair) != 2 or not 0 <= pair[0] <= pair[1]:
                raise ConfigError(f"{name}={list(pair)}: expected the first and the last, counted from 0, as in [2,25].")
        part = Files(
            "weights",
            weights,
            code,
            WEIGHTS,
            size="transformer and VAE 4.3 GB, T5 9.5 GB",
            licence="Apache-2.0",
            get="two archives from a link in the checkout's README.md and the text encoder of zai-org/CogVideoX-2b: docs/models/ditctrl.md",
        )
        super().__init__(
            ["ditctrl_driver.py"],
            "TencentARC/DiTCtrl",
            {"weights": str(part.path), "share_steps": list(share_steps), "share_layers": list(share_layers)},
            python=python,
            code=code,
            entries=ENTRIES,
            parts=[part],
            texts=["source", "target"],
            notes=[
                "never sees the source: made from the two captions alone, neither the clip nor its mask goes in",
                "lossy output: its own program writes H.264",
            ],
            seed=seed,
            timeout_s=timeout_s,
            env=env,
            keep_jobs=keep_jobs,
            allow_short=True,
        )
