"""Make the pictures of the README and of these pages from the environments' own frames.

    python docs/make_pictures.py              docs/abr.gif and docs/cluster.png
    python docs/make_pictures.py --out DIR    into another folder

Needs the extras `llm` and `report`. Everything that is played is generated, so no data are needed.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from PIL import Image

import netllm_gym

COLOURS = 128  # of the moving picture
FRAME_MS, LAST_FRAME_MS = 250, 3000


def frames_of(env_id: str, policy: str, seed: int, **case: object) -> Iterator[NDArray[np.uint8]]:
    """Play one episode with a policy; yield a (480, 800, 3) frame after each step."""
    env = gym.make(env_id, render_mode="rgb_array", **case).unwrapped
    one_row = gym.make_vec(env_id, num_envs=1, **case).unwrapped  # as policies are built for
    player = netllm_gym.load_policy(policy, "abr").factory(one_row)
    observation, info = env.reset(seed=seed)
    player.reset(np.zeros(1, np.int64), np.array([seed]))
    reward, is_over = 0.0, False
    while not is_over:
        columns = {name: np.array([value]) for name, value in info.items()}
        action = player.act(observation[None], np.array([reward]), columns)[0]
        observation, reward, terminated, truncated, info = env.step(action)
        is_over = terminated or truncated
        yield env.render()


def write_gif(path: Path, frames: list[NDArray[np.uint8]]) -> None:
    """Write frames as a moving picture; all share the colours of the last one."""
    pictures = [Image.fromarray(frame) for frame in frames]
    palette = pictures[-1].quantize(COLOURS, dither=Image.Dither.NONE)
    pictures = [each.quantize(palette=palette, dither=Image.Dither.NONE) for each in pictures]
    durations = [FRAME_MS] * (len(pictures) - 1) + [LAST_FRAME_MS]
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=True
    )


def cluster_frame() -> NDArray[np.uint8]:
    """Give ten executors to the oldest job that can use them; return the episode's last frame."""
    env = gym.make("NetLLM-CJS-v0", num_jobs=40, render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    is_over = False
    while not is_over:
        stage = np.flatnonzero(observation["stage_mask"])[0]
        observation, _, terminated, truncated, _ = env.step(np.array([stage, 9]))
        is_over = terminated or truncated
    frame: NDArray[np.uint8] = env.render()
    return frame


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder")
    parser.add_argument("--seed", type=int, default=1, help="of the episode of ABR")
    given = parser.parse_args()
    write_gif(given.out / "abr.gif", list(frames_of("NetLLM-ABR-v0", "netllm", given.seed)))
    Image.fromarray(cluster_frame()).quantize(COLOURS).save(given.out / "cluster.png")


if __name__ == "__main__":
    main()
