"""Weights and videos from which the fixtures of I3D are made: equal on every machine, so that only outputs need to be kept."""

from zlib import crc32

import numpy as np

CHANNELS = {
    "Mixed_3b": (192, 64, 96, 128, 16, 32, 32),
    "Mixed_3c": (256, 128, 128, 192, 32, 96, 64),
    "Mixed_4b": (480, 192, 96, 208, 16, 48, 64),
    "Mixed_4c": (512, 160, 112, 224, 24, 64, 64),
    "Mixed_4d": (512, 128, 128, 256, 24, 64, 64),
    "Mixed_4e": (512, 112, 144, 288, 32, 64, 64),
    "Mixed_4f": (528, 256, 160, 320, 32, 128, 128),
    "Mixed_5b": (832, 256, 160, 320, 32, 128, 128),
    "Mixed_5c": (832, 384, 192, 384, 48, 128, 128),
}


def state(seed=0):
    """The 287 arrays of the published file by name, float32, of a scale at which activations neither vanish nor explode."""
    units = {"Conv3d_1a_7x7": (64, 3, 7), "Conv3d_2b_1x1": (64, 64, 1), "Conv3d_2c_3x3": (192, 64, 3)}
    for name, (inputs, b0, b1a, b1b, b2a, b2b, b3b) in CHANNELS.items():
        branches = {"b0": (b0, inputs, 1), "b1a": (b1a, inputs, 1), "b1b": (b1b, b1a, 3), "b2a": (b2a, inputs, 1)}
        branches |= {"b2b": (b2b, b2a, 3), "b3b": (b3b, inputs, 1)}
        units |= {f"{name}.{branch}": shape for branch, shape in branches.items()}
    arrays = {
        "logits.conv3d.weight": _normal("logits", (400, 1024, 1, 1, 1), seed),
        "logits.conv3d.bias": _rng("bias", seed).normal(size=400),
    }
    for name, (outputs, inputs, kernel) in units.items():
        rng = _rng(name, seed)
        arrays[f"{name}.conv3d.weight"] = _normal(f"{name} weight", (outputs, inputs, kernel, kernel, kernel), seed)
        arrays[f"{name}.bn.weight"] = rng.uniform(0.8, 1.2, outputs) * np.where(rng.random(outputs) < 0.1, -1, 1)
        arrays[f"{name}.bn.bias"] = rng.uniform(-0.2, 0.2, outputs)
        arrays[f"{name}.bn.running_mean"] = rng.uniform(-0.2, 0.2, outputs)
        arrays[f"{name}.bn.running_var"] = rng.uniform(0.8, 1.2, outputs)
    return {name: values.astype(np.float32) for name, values in arrays.items()}


def video(name, frames, height, width):
    """Smooth coloured noise that drifts, uint8 (T, H, W, 3)."""
    rng = _rng(name, 0)
    coarse = rng.random((height // 8 + 2, (width + frames) // 8 + 2, 3))
    wide = np.kron(coarse, np.ones((8, 8, 1)))[:height, : width + frames]
    moving = np.stack([wide[:, t : t + width] for t in range(frames)])
    return np.clip(255 * moving + rng.normal(0, 12, moving.shape), 0, 255).astype(np.uint8)


def pair(name, frames, height, width):
    """A video, and the same with another texture in a box: reference and prediction."""
    reference = video(name, frames, height, width)
    prediction = reference.copy()
    box = np.s_[:, height // 4 : 3 * height // 4, width // 3 : 2 * width // 3]
    prediction[box] = video(f"{name} hole", frames, height, width)[box]
    return prediction, reference


def _rng(name, seed):
    return np.random.default_rng([seed, crc32(name.encode())])


def _normal(name, shape, seed):
    return _rng(name, seed).normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
