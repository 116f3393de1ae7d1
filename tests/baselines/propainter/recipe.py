"""The three files of ProPainter's release with seeded random weights, and clips to go with them.

Names and shapes are those of the released files, as the specification lists them. Every tensor follows from its name alone (numpy's
generator, seeded by the name), so that the same files come out wherever this runs. What training starts at zero (the offsets of deformable
convolutions) is random here: a zero would hide what is multiplied with it.
"""

from __future__ import annotations

import hashlib

import cv2
import numpy as np

FILES = {"raft-things": "raft-things.pth", "propainter-flow-completion": "recurrent_flow_completion.pth", "propainter": "ProPainter.pth"}
FLOW = 0.05  # scale of RAFT's last layer: flows of a few pixels, so that both directions often agree


def noise(name, shape):
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(shape)


def conv(name, out, into, *kernel):
    return {f"{name}.weight": (out, into, *kernel), f"{name}.bias": (out,)}


def raft_shapes():
    """179 tensors of ``raft-things.pth``."""
    shapes = {}
    for encoder, norm in (("fnet", False), ("cnet", True)):

        def normed(name, width, with_norm=norm):
            if not with_norm:
                return {}
            parts = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (width,))
            return {f"{name}.{part}": shape for part, shape in {**parts, "num_batches_tracked": ()}.items()}

        shapes |= conv(f"{encoder}.conv1", 64, 3, 7, 7) | normed(f"{encoder}.norm1", 64)
        into = 64
        for layer, width in enumerate((64, 96, 128), 1):
            for block in range(2):
                name = f"{encoder}.layer{layer}.{block}"
                for i in (1, 2):
                    shapes |= conv(f"{name}.conv{i}", width, into if i == 1 else width, 3, 3) | normed(f"{name}.norm{i}", width)
                if layer > 1 and block == 0:
                    shapes |= normed(f"{name}.norm3", width) | conv(f"{name}.downsample.0", width, into, 1, 1)
                    shapes |= normed(f"{name}.downsample.1", width)
                into = width
        shapes |= conv(f"{encoder}.conv2", 256, 128, 1, 1)
    block = "update_block"
    shapes |= conv(f"{block}.encoder.convc1", 256, 324, 1, 1) | conv(f"{block}.encoder.convc2", 192, 256, 3, 3)
    shapes |= conv(f"{block}.encoder.convf1", 128, 2, 7, 7) | conv(f"{block}.encoder.convf2", 64, 128, 3, 3)
    shapes |= conv(f"{block}.encoder.conv", 126, 256, 3, 3)
    for i, kernel in ((1, (1, 5)), (2, (5, 1))):
        for gate in "zrq":
            shapes |= conv(f"{block}.gru.conv{gate}{i}", 128, 384, *kernel)
    shapes |= conv(f"{block}.flow_head.conv1", 256, 128, 3, 3) | conv(f"{block}.flow_head.conv2", 2, 256, 3, 3)
    shapes |= conv(f"{block}.mask.0", 256, 128, 3, 3) | conv(f"{block}.mask.2", 576, 256, 1, 1)
    return {f"module.{name}": shape for name, shape in shapes.items()}


def deformable(name, out, into, condition):
    shapes = conv(name, out, into, 3, 3)
    for i, (width, source) in {0: (out, condition), 2: (out, out), 4: (out, out), 6: (432, out)}.items():
        shapes |= conv(f"{name}.conv_offset.{i}", width, source, 3, 3)
    return shapes


def completion_shapes():
    """74 tensors of ``recurrent_flow_completion.pth``."""
    shapes = conv("downsample.0", 32, 3, 1, 5, 5)
    for encoder, widths in (("encoder1", ((32, 32), (32, 64))), ("encoder2", ((64, 64), (64, 128)))):
        for i, (into, out) in zip((0, 2), widths, strict=True):
            shapes |= conv(f"{encoder}.{i}.conv1.0", out, into, 1, 3, 3) | conv(f"{encoder}.{i}.conv2.0", out, out, 3, 1, 1)
    for i in (0, 2, 4):
        shapes |= conv(f"mid_dilation.{i}", 128, 128, 1, 3, 3)
    module = "feat_prop_module"
    for direction, into in (("backward_", 256), ("forward_", 384)):
        shapes |= deformable(f"{module}.deform_align.{direction}", 128, 256, 384)
        shapes |= conv(f"{module}.backbone.{direction}.0", 128, into, 3, 3) | conv(f"{module}.backbone.{direction}.2", 128, 128, 3, 3)
    shapes |= conv(f"{module}.fusion", 128, 256, 1, 1)
    shapes |= conv("decoder2.0", 128, 128, 3, 3) | conv("decoder2.2.conv", 64, 128, 3, 3)
    shapes |= conv("decoder1.0", 64, 64, 3, 3) | conv("decoder1.2.conv", 32, 64, 3, 3)
    shapes |= conv("upsample.0", 32, 32, 3, 3) | conv("upsample.2.conv", 2, 32, 3, 3)
    shapes |= conv("edgeDetector.projection.0", 16, 2, 3, 3) | conv("edgeDetector.mid_layer_1.0", 16, 16, 3, 3)
    return shapes | conv("edgeDetector.mid_layer_2.0", 16, 16, 3, 3) | conv("edgeDetector.out_layer", 1, 16, 1, 1)


def generator_shapes():
    """224 entries of ``ProPainter.pth``: 216 weights and 8 index buffers."""
    shapes = {}
    widths = ((64, 5), (64, 64), (128, 64), (256, 128), (384, 256), (512, 320), (384, 192), (256, 80), (128, 512))
    for i, (out, into) in enumerate(widths):
        shapes |= conv(f"encoder.layers.{2 * i}", out, into, 3, 3)
    for name, out, into in (("0.conv", 128, 128), ("2", 64, 128), ("4.conv", 64, 64), ("6", 3, 64)):
        shapes |= conv(f"decoder.{name}", out, into, 3, 3)
    shapes |= conv("ss.embedding", 512, 6272) | conv("sc.embedding", 6272, 512) | conv("sc.bias_conv", 128, 128, 3, 3)
    module = "feat_prop_module"
    for direction in ("backward_1", "forward_1"):
        shapes |= deformable(f"{module}.deform_align.{direction}", 128, 128, 261)
        shapes |= conv(f"{module}.backbone.{direction}.0", 128, 258, 3, 3) | conv(f"{module}.backbone.{direction}.2", 128, 128, 3, 3)
    shapes |= conv(f"{module}.fuse.0", 128, 258, 3, 3) | conv(f"{module}.fuse.2", 128, 128, 3, 3)
    for i in range(8):
        block = f"transformers.transformer.{i}"
        for part in ("key", "query", "value", "proj"):
            shapes |= conv(f"{block}.attention.{part}", 512, 512)
        shapes |= {f"{block}.attention.valid_ind_rolled": (148,)} | conv(f"{block}.attention.pool_layer", 512, 1, 4, 4)
        for part in ("norm1", "norm2"):
            shapes |= {f"{block}.{part}.weight": (512,), f"{block}.{part}.bias": (512,)}
        shapes |= conv(f"{block}.mlp.fc1.0", 1960, 512) | conv(f"{block}.mlp.fc2.1", 512, 1960)
    return shapes


SHAPES = {"raft-things": raft_shapes, "propainter-flow-completion": completion_shapes, "propainter": generator_shapes}


def values(name, shape):
    """Random weights for a tensor: of a size that keeps activations in range."""
    name = name.replace(".norm3.", ".downsample.1.")  # one module under two names
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("valid_ind_rolled"):
        return ring()
    drawn = noise(name, shape)
    if name.endswith("running_var"):
        drawn = 1 + 0.3 * np.tanh(drawn)
    elif len(shape) > 1:
        drawn *= 1.2 / np.sqrt(np.prod(shape[1:]))
        if "flow_head.conv2" in name:
            drawn *= FLOW
    elif name.endswith("weight"):
        drawn = 1 + 0.2 * drawn
    else:
        drawn *= 0.1 * (FLOW if "flow_head.conv2" in name else 1)
    return drawn.astype(np.float32)


def ring():
    """The index buffer of the released file: of four grids of 5 x 9, rolled by 3 and 5, the places that are not in the window itself."""
    kept = []
    for corner, (up, left) in enumerate(((1, 1), (1, 0), (0, 1), (0, 0))):
        for row in range(5):
            for column in range(9):
                inside = (row < 2 if up else row >= 3) and (column < 4 if left else column >= 5)
                if not inside:
                    kept.append(45 * corner + 9 * row + column)
    return np.array(kept, np.int64)


def state(network):
    """The tensors of a network's file."""
    import torch

    return {name: torch.from_numpy(np.asarray(values(name, shape))) for name, shape in SHAPES[network]().items()}


def write(folder):
    """Write the three files."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    for network, file in FILES.items():
        if not (folder / file).exists():
            torch.save(state(network), folder / file)
    return folder


def video(frames, height, width, hole=0.3):
    """A textured picture that moves, and a hole that moves otherwise: uint8 (T, H, W, 3), bool (T, H, W)."""
    margin = 3 * frames
    picture = np.zeros((height + margin, width + margin, 3))
    for sigma in (1.0, 3.0, 9.0):
        layer = cv2.GaussianBlur(noise(f"picture {sigma}", picture.shape), (0, 0), sigma)
        picture += layer / layer.std()
    picture = (128 + 40 * picture / picture.std()).clip(0, 255).astype(np.uint8)
    clip = np.stack([picture[t : t + height, 2 * t : 2 * t + width] for t in range(frames)])
    masks = np.zeros((frames, height, width), bool)
    tall, wide = int(hole * height), int(hole * width)
    for t in range(frames):
        top, left = (height - tall) // 2, (width // 4 + 2 * t) % (width - wide)
        masks[t, top : top + tall, left : left + wide] = True
    return clip, masks


def levels(name, shape):
    """Values in [-1, 1] of smooth noise, float32 (..., H, W)."""
    drawn = noise(name, shape)
    if not drawn.size:
        return drawn.astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(plane, (0, 0), 2.0) for plane in drawn.reshape(-1, *shape[-2:])]).reshape(shape)
    return np.clip(smooth / smooth.std() * 0.4, -1, 1).astype(np.float32)


def flows(name, frames, height, width):
    """Forward and backward flow that mostly agree: a common motion and some noise, float32 (T - 1, 2, H, W) each."""
    motion = np.array([2.3, 1.4]).reshape(1, 2, 1, 1)
    shape = (frames - 1, 2, height, width)
    return tuple((sign * motion + 0.2 * levels(f"{name} {sign}", shape)).astype(np.float32) for sign in (1, -1))


def some_masks(kind, frames, height, width):
    """float32 (T, 1, H, W) of 0 and 1."""
    masks = np.zeros((frames, 1, height, width), np.float32)
    if kind == "all":
        masks[:] = 1
    elif kind == "random":
        masks[:] = levels("masks", masks.shape) > 0.2
    elif kind == "box":
        for t in range(frames):
            masks[t, :, height // 4 : height // 2, width // 4 + 2 * t : width // 2 + 2 * t] = 1
    return masks


GENERATOR = {  # name: height, width, frames, local frames, mask
    "random": (64, 64, 4, 3, "random"),
    "empty": (40, 72, 5, 5, "empty"),
    "box": (72, 136, 6, 4, "box"),
    "all": (64, 120, 2, 2, "all"),
    "single": (48, 64, 1, 1, "box"),
    "larger": (128, 128, 6, 5, "box"),
}
RAFT = {"square": (2, 128, 128), "wide": (3, 128, 192)}  # frames, height, width
COMPLETION = {"small": (4, 64, 88), "two": (2, 40, 48)}
PROPAGATION = {"box": (6, 64, 88), "random": (5, 40, 72)}
CLIPS = {  # name: frames, height, width, settings in the names of the command line
    "short": (7, 128, 136, {}),
    "floored": (4, 141, 133, {}),
    "windows": (14, 128, 128, {"neighbor_length": 6, "ref_stride": 3}),
    "subclips": (17, 128, 128, {"neighbor_length": 4, "ref_stride": 2, "subvideo_length": 6}),
    "evaluation": (9, 128, 128, {"neighbor_length": 6, "ref_stride": 3}),
}
UPDATES = 20  # of RAFT, stage by stage
KEPT = 4000  # values of an output that are kept


def sampled(values):
    """At most ``KEPT`` values from all over an array, in a fixed order: what is compared with upstream's."""
    flat = np.asarray(values).reshape(-1)
    return flat[:: max(1, -(-flat.size // KEPT)) | 1].copy()  # an odd step meets every row and column
