"""UniEdit: Bai et al., "UniEdit: A Unified Tuning-Free Framework for Video Motion and Appearance Editing", arXiv 2402.13185.

The user's checkout of JianhongBai/UniEdit in the user's environment, driven by ``uniedit_driver.py``: appearance editing with the target
text and the clip's masks, in windows of 16 frames at 512x320 that know nothing of each other. See docs/models/uniedit.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from vpbench.baselines.external.checkout import Checkout, Files
from vpbench.errors import ConfigError

ENTRIES = ("uniedit/diffuser_utils.py", "feature_injection/spatialctrl.py", "lavie_models/unet.py", "nti.py")
SD = (
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors|text_encoder/pytorch_model.bin",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors|vae/diffusion_pytorch_model.bin",
    "unet/config.json",
    "unet/diffusion_pytorch_model.bin",  # UniEdit reads no other format here
)


class UniEdit(Checkout):
    """The model.

    Args:
        python: interpreter of UniEdit's environment.
        code: checkout of JianhongBai/UniEdit.
        sd: folder of Stable Diffusion 1.4 in the layout of diffusers; relative paths are the checkout's.
        lavie: LaVie's base model.
        steps: denoising steps, of inversion too.
        guidance: strength of the text.
        use_mask: keep what is outside the masks near the source; False: edit everywhere.
        null_text: null-text optimisation after the inversion, slow and large; False: plain DDIM inversion.
        seed: for draws; None: the run's. UniEdit itself draws nothing.
        timeout_s: per clip.
        env: variables on top of vpbench's environment.
        keep_jobs: keep the folders of all jobs.
    """

    version: ClassVar[int] = 1

    def __init__(
        self,
        python: str | None,
        code: str | None,
        sd: str = "stable-diffusion-v1-4",
        lavie: str = "LaVie/lavie_base.pt",
        steps: int = 50,
        guidance: float = 7.5,
        use_mask: bool = True,
        null_text: bool = True,
        seed: int | None = None,
        timeout_s: float = 14400.0,
        env: Mapping[str, Any] | None = None,
        keep_jobs: bool = False,
    ) -> None:
        if steps < 2:
            raise ConfigError(f"steps={steps}: expected at least 2.")
        parts = [
            Files(
                "sd",
                sd,
                code,
                SD,
                size="about 4 GB",
                licence="CreativeML OpenRAIL-M",
                get="hf download CompVis/stable-diffusion-v1-4 --local-dir DIR; name it: model.sd=DIR",
            ),
            Files(
                "lavie",
                lavie,
                code,
                licence="LaVie's: open for research, commercial use on application",
                get="hf download Vchitect/LaVie lavie_base.pt --local-dir DIR; name it: model.lavie=DIR/lavie_base.pt",
            ),
        ]
        settings = {**{part.key: str(part.path) for part in parts}, "steps": steps, "guidance": guidance}
        settings |= {"use_mask": use_mask, "null_text": null_text}
        notes = ["windows: of 16 frames at 512x320, each edited for itself, so it may jump where they meet"]
        if not null_text:
            notes.append("plain inversion: without null-text optimisation, which the authors use")
        if not use_mask:
            notes.append("no mask: the whole picture is edited")
        super().__init__(
            ["uniedit_driver.py"],
            "JianhongBai/UniEdit",
            settings,
            python=python,
            code=code,
            entries=ENTRIES,
            parts=parts,
            texts=["target"],
            notes=notes,
            seed=seed,
            timeout_s=timeout_s,
            env=env,
            keep_jobs=keep_jobs,
        )
