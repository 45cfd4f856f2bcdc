"""Small sets of head movements, and learned predictors whose weights say something."""

import torch

from netllm_gym.data.vp.synthetic import HeadMotion, generate_viewports
from netllm_gym.data.vp.video_features import VideoFeatures
from netllm_gym.data.vp.viewport import ViewportSet, ViewportWindows, WindowConfig

CONFIG = WindowConfig(history=6, future=4, trim_head=6, trim_tail=4, stride=5)


def made_windows(videos=2, users=3, seed=0, order="yxz", features=None, config=CONFIG):
    """Return the windows of a generated set."""
    traces = generate_viewports(HeadMotion(duration_s=20.0), videos, users, seed)
    dataset = ViewportSet("made", order, traces, features=features)
    return ViewportWindows(dataset, config)


def made_features(videos=2, size=5):
    """Return random features of frames, 2 a second."""
    generator = torch.Generator().manual_seed(0)
    rows = {
        video: torch.randn(40, size, generator=generator).numpy() for video in range(1, videos + 1)
    }
    return VideoFeatures(rows, dict.fromkeys(rows, 2.0))


def awaken(model):
    """Give the last layers, which begin with zeros, random weights; return the model."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for each in model.parameters():
            if not each.any():
                each.copy_(0.3 * torch.randn(each.shape, generator=generator))
    return model.eval()
