"""Image corruptions: noise, blur, loss of contrast, JPEG; each in five severities.

A corruption takes images, uint8 ``[B, 3, S, S]`` on the CPU, and their positions in their set, int64 ``[B]``, which
seed the random numbers, to new ones; the result depends only on these and on the severity.

The strengths are those of CIFAR-10-C (Hendrycks & Dietterich 2019), which are for images of 32 x 32. The blur, in
pixels, scales with the image size.
"""

import math
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

SEVERITIES = (1, 2, 3, 4, 5)


def gaussian_noise(images: Tensor, positions: Tensor, severity: int) -> Tensor:
    scale = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1] * 255
    # The noise of an image does not depend on its batch.
    streams = (np.random.default_rng((severity, position)) for position in positions.tolist())
    noise = np.stack([stream.standard_normal(images.shape[1:], dtype=np.float32) for stream in streams])
    return _to_bytes(images.float() + scale * torch.from_numpy(noise))


def gaussian_blur(images: Tensor, positions: Tensor, severity: int) -> Tensor:
    sigma = (0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1] * images.shape[-1] / 32
    return F.gaussian_blur(images, [2 * math.ceil(4 * sigma) + 1] * 2, [sigma] * 2)


def contrast(images: Tensor, positions: Tensor, severity: int) -> Tensor:
    kept = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    levels = images.float()
    mean = levels.mean(dim=(-2, -1), keepdim=True)  # of each channel of each image
    return _to_bytes(mean + kept * (levels - mean))


def jpeg(images: Tensor, positions: Tensor, severity: int) -> Tensor:
    quality = (80, 65, 58, 50, 40)[severity - 1]
    decoded = []
    for image in images.permute(0, 2, 3, 1).numpy():
        file = BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        decoded.append(np.asarray(Image.open(file)))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous()


def _to_bytes(levels: Tensor) -> Tensor:
    return levels.round_().clamp_(0, 255).to(torch.uint8)


CORRUPTIONS = {function.__name__: function for function in (gaussian_noise, gaussian_blur, contrast, jpeg)}
