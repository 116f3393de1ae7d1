"""Driver of DiTCtrl (Cai et al., arXiv 2412.18597): word swap between two prompts on CogVideoX-2B.

Imports the user's checkout of TencentARC/DiTCtrl and hands its script for editing one case after another; networks are built once, which
that script does for each. A case is a YAML file with two prompts, the answer a film with the first prompt's video at its left and the
second's at its right. No picture goes in.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vpbench.baselines.external import checkout_driver, vpbench_worker
else:
    import checkout_driver
    import vpbench_worker

FRAMES, FPS = 49, 8
ALONE = {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
CONFIGS = ["configs/cogvideox_2b.yaml", "configs/inference.yaml"]


class Generator:
    """Builds DiTCtrl's networks on the first job."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.network: Any = None

    def __call__(self, job: vpbench_worker.Job) -> dict[str, Any]:
        """Make a video of the clip's target text."""
        import cv2
        import yaml

        settings = self.settings
        os.environ.update(ALONE)
        os.chdir(os.path.join(settings["code"], "sat"))  # its configurations have relative paths
        prompts, case = [job.texts["source"], job.texts["target"]], os.path.join(job.work, "case.yaml")
        made = os.path.join(job.work, "out_raw")
        (first_step, last_step), (first_layer, last_layer) = settings["share_steps"], settings["share_layers"]
        told = {"seed": job.seed, "output_dir": made, "sampling_fps": FPS, "is_edit": True, "prompts": prompts}
        told.update(start_step=first_step, end_step=last_step, start_layer=first_layer, end_layer=last_layer)
        with open(case, "w", encoding="utf-8") as file:
            yaml.safe_dump({"args": told}, file, allow_unicode=True)
        self._sample(case)
        path = os.path.join(made, f"editing_frames{FRAMES}.mp4")
        film, written = cv2.VideoCapture(path), 0
        native: dict[str, int] = {}
        while written < len(job.outs):
            there, frame = film.read()
            if not there:
                break
            right = frame[:, frame.shape[1] // 2 :]
            cv2.imwrite(job.outs[written], right)
            written, native = written + 1, {"width": right.shape[1], "height": right.shape[0], "frames": FRAMES}
        film.release()
        text = self.network.conditioner.embedders[0]
        return {
            "frames_written": written,
            "native": native,
            "windows": [[0, FRAMES]],
            "text_used": prompts[1],
            "text_truncated": any(len(text.tokenizer(prompt).input_ids) > text.max_length for prompt in prompts),
            "composited": False,
            "conditioned_on_source": False,
            "peak_gpu_bytes": checkout_driver.peak_gpu_bytes(),
            "code": settings["commit"],
        }

    def _sample(self, case: str) -> None:
        args = importlib.import_module("arguments").get_args(["--base", *CONFIGS, "--custom-config", case])
        if hasattr(args, "deepspeed_config"):
            del args.deepspeed_config
        weights, model = self.settings["weights"], args.model_config
        args.load = os.path.join(weights, "transformer")
        model.first_stage_config.params.ckpt_path = os.path.join(weights, "vae", "3d-vae.pt")
        model.conditioner_config.params.emb_models[0].params.model_dir = os.path.join(weights, "t5-v1_1-xxl")
        model.first_stage_config.params.cp_size = 1
        model.network_config.params.transformer_args.model_parallel_size = 1
        model.network_config.params.transformer_args.checkpoint_activations = False
        model.loss_fn_config.params.sigma_sampler_config.params.uniform_sampling = False
        script = importlib.import_module("sample_video_edit")
        if self.network is None:
            self.network = script.get_model(args, script.SATVideoDiffusionEngine)
        script.sampling_main(args, model_cls=self.network)


if __name__ == "__main__":
    told = checkout_driver.settings("sat")
    vpbench_worker.run(Generator(told))
