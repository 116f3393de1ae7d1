"""Driver of UniEdit (Bai et al., arXiv 2402.13185): appearance editing of 16 frames at 512x320, window by window.

Imports the user's checkout of JianhongBai/UniEdit and does with its classes what its script for appearance does with one video: invert
(null-text or plain DDIM), then generate source and edit together with attention injection. Differs from that script in what stands around:
pictures come from the job and go to it as PNG, texts are cut to what the text encoder reads, attention of the window before is taken out
before the next one is inverted, and the network's weights keep no gradients (null-text optimisation changes the embeddings alone).
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vpbench.baselines.external import checkout_driver, vpbench_worker
else:
    import checkout_driver
    import vpbench_worker

FRAMES, WIDTH, HEIGHT = 16, 512, 320  # fixed in UniEdit's attention code
TOKENS = 77
BETAS = {True: (0.0001, 0.02), False: (0.00085, 0.012)}  # of the linear schedule, with and without null-text optimisation
LAYERS = 16


def windows(frames: int) -> list[tuple[int, int]]:
    """Windows of 16 frames side by side; the last one ends with the clip and may overlap the one before.

    >>> windows(49)
    [(0, 16), (16, 32), (32, 48), (33, 49)]
    >>> windows(7)
    [(0, 7)]
    """
    if frames <= FRAMES:
        return [(0, frames)]
    starts = list(range(0, frames - FRAMES + 1, FRAMES))
    if starts[-1] + FRAMES < frames:
        starts.append(frames - FRAMES)
    return [(start, start + FRAMES) for start in starts]


class Editor:
    """Loads UniEdit on the first job."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.pipeline: Any = None
        self.device: Any = None

    def __call__(self, job: vpbench_worker.Job) -> dict[str, Any]:
        """Edit a clip."""
        import cv2
        import numpy as np

        if self.pipeline is None:
            self._load()
        asked = ". ".join(text.strip().rstrip(".") for text in (job.texts["region"], job.texts["target"]) if text.strip())
        text = checkout_driver.shortened(asked, lambda text: bool(len(self.pipeline.tokenizer(text).input_ids) <= TOKENS))
        frames = [cv2.resize(cv2.imread(path), (WIDTH, HEIGHT))[..., ::-1] for path in job.sources]
        masks = [np.asarray(cv2.imread(path, cv2.IMREAD_GRAYSCALE)) > 128 for path in job.masks]
        cut, written = windows(len(frames)), 0
        for start, stop in cut:
            padding = [stop - 1] * (FRAMES - (stop - start))
            chosen = [*range(start, stop), *padding]
            edited = self._edited(np.stack([frames[t] for t in chosen]), np.stack([masks[t] for t in chosen]), text, job.seed)
            for t in range(written, stop):
                cv2.imwrite(job.outs[t], np.ascontiguousarray(edited[t - start][..., ::-1]))
            written = stop
        return {
            "frames_written": written,
            "native": {"width": WIDTH, "height": HEIGHT, "frames": FRAMES},
            "windows": cut,
            "text_used": text,
            "text_truncated": text != asked,
            "composited": False,
            "peak_gpu_bytes": checkout_driver.peak_gpu_bytes(),
            "code": self.settings["commit"],
            "notes": [f"padded: a clip shorter than {FRAMES} frames ends with its last one repeated"] if len(frames) < FRAMES else [],
        }

    def _load(self) -> None:
        import torch

        diffusers, transformers = importlib.import_module("diffusers"), importlib.import_module("transformers")
        base = self.settings["sd"]
        first, last = BETAS[self.settings["null_text"]]
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = importlib.import_module("lavie_models.unet").UNet3DConditionModel.from_pretrained_2d(base, subfolder="unet")
        weights = torch.load(self.settings["lavie"], map_location="cpu", weights_only=True)
        network.load_state_dict(weights.get("ema", weights))
        pipeline = (
            importlib.import_module("uniedit.diffuser_utils")
            .UniEditPipeline(
                vae=diffusers.AutoencoderKL.from_pretrained(base, subfolder="vae"),
                text_encoder=transformers.CLIPTextModel.from_pretrained(base, subfolder="text_encoder"),
                tokenizer=transformers.CLIPTokenizer.from_pretrained(base, subfolder="tokenizer"),
                unet=network,
                scheduler=diffusers.DDIMScheduler.from_pretrained(
                    base, subfolder="scheduler", beta_start=first, beta_end=last, beta_schedule="linear"
                ),
            )
            .to(self.device)
        )
        for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
            part.eval().requires_grad_(False)
        if importlib.import_module("diffusers.utils").is_xformers_available():
            try:
                pipeline.enable_xformers_memory_efficient_attention()
            except Exception as error:  # built for another torch, say: attention then takes more memory
                sys.stderr.write(f"without memory-efficient attention: {error}\n")
        pipeline.start_with_same_latent = True
        self.pipeline = pipeline

    def _edited(self, frames: Any, masks: Any, text: str, seed: int) -> Any:
        """One window: uint8 (16, 320, 512, 3) RGB and bool (16, H, W) to uint8 (16, 320, 512, 3)."""
        import torch

        steps, guidance = self.settings["steps"], self.settings["guidance"]
        for module in self.pipeline.unet.modules():
            vars(module).pop("forward", None)  # attention of the window before
        torch.manual_seed(seed)
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)[None].float().div(127.5).sub(1).to(self.device)
        if self.settings["null_text"]:
            inversion = importlib.import_module("nti").NullInversion(
                self.pipeline, pixels, steps, guidance, self.device, weight_dtype=torch.float32
            )
            _, noise, without_text = inversion.invert(None, prompt="", verbose=True)
        else:
            noise, _ = self.pipeline.invert_video(pixels, [""], num_inference_steps=steps, guidance_scale=guidance)
            without_text = None
        region = torch.from_numpy(masks).float().to(self.device) if self.settings["use_mask"] else None
        editor = importlib.import_module("feature_injection.spatialctrl").SpatialAttentionWithMask(mask_s=region)
        importlib.import_module("feature_injection.spatialctrl_utils").regiter_attention_editor_diffusers(self.pipeline, editor)
        editor.motion_editing = False
        share = 0.5 if self.settings["use_mask"] else 0.4  # of the steps: 25 and 20 of 50
        editor.struc_ctrl_step_idx = list(range(round(share * steps)))
        editor.struc_ctrl_layer_idx = list(range(LAYERS))
        if self.settings["use_mask"]:
            editor.bg_enhance_step_idx, editor.bg_enhance_layer_idx = editor.struc_ctrl_step_idx, editor.struc_ctrl_layer_idx
        made = self.pipeline(
            ["", text],
            negative_prompt="",
            num_inference_steps=steps,
            guidance_scale=guidance,
            height=HEIGHT,
            width=WIDTH,
            video_length=FRAMES,
            latents=noise.repeat(2, 1, 1, 1, 1),
            uncond_embeddings_pre=without_text,
        ).videos
        return made[1].permute(1, 2, 3, 0).numpy()  # the first one is the source, generated again


if __name__ == "__main__":
    vpbench_worker.run(Editor(checkout_driver.settings()))
