"""Generated head movements, so that everything runs without a download.

A head moves in three ways at once: it follows something that moves (smooth pursuit), it turns to
something else (a saccade, as fast as a neck can turn), and it returns to the main object of the
video, which is the same for everybody who watches it. Yaw is a heading and wraps around.

The movements are only roughly as large as those of the recorded sets: a mean change per sample of
about 3 degrees of yaw and 1 degree of pitch, half a second for a turn, a few turns in ten seconds.
"""

from dataclasses import dataclass

import numpy as np

from netllm_gym.arrays import FloatArray
from netllm_gym.configs import check
from netllm_gym.data.vp.angles import PITCH, ROLL, YAW, wrapped_deg
from netllm_gym.data.vp.viewport import FREQUENCY_HZ, ViewportTrace
from netllm_gym.errors import InputError

STEP_S = 1.0 / FREQUENCY_HZ


@dataclass(frozen=True)
class HeadMotion:
    """How people look about.

    Attributes:
        duration_s: Length of a video.
        pursuit_deg_s: Usual speed of following.
        pursuit_s: For so long does a speed last, about.
        saccades_per_s: Turns to something else.
        saccade_deg: Their usual size in yaw; a fifth of it in pitch.
        saccade_s: Shortest and longest turn.
        attraction_per_s: Share of the way to what the video shows that is made in a second.
        scene_s: For so long does a video show its main thing in one place, about.
    """

    duration_s: float = 60.0
    pursuit_deg_s: float = 9.0
    pursuit_s: float = 1.5
    saccades_per_s: float = 0.25
    saccade_deg: float = 45.0
    saccade_s: tuple[float, float] = (0.4, 1.2)
    attraction_per_s: float = 0.12
    scene_s: float = 12.0

    def __post_init__(self) -> None:
        bounds = dict.fromkeys(("duration_s", "pursuit_s", "scene_s"), (STEP_S, 3600))
        others = ("pursuit_deg_s", "saccades_per_s", "saccade_deg", "attraction_per_s")
        for name, (low, high) in {**bounds, **dict.fromkeys(others, (0, 1000))}.items():
            value = getattr(self, name)
            check(low <= value <= high, name, f"be in {low}..{high}", value)
        shortest, longest = self.saccade_s
        holds = STEP_S <= shortest <= longest <= self.duration_s
        check(holds, "saccade_s", f"be a range of {STEP_S}..{self.duration_s}", self.saccade_s)

    @property
    def samples(self) -> int:
        """Of a trace."""
        return round(self.duration_s * FREQUENCY_HZ)

    def scene(self, rng: np.random.Generator) -> FloatArray:
        """Draw (n, 2): pitch and yaw, unwrapped, of what a video shows."""
        cuts = rng.random(self.samples) < STEP_S / self.scene_s
        jumps = cuts[:, None] * rng.normal(0.0, (8.0, 70.0), (self.samples, 2))
        return np.asarray(np.cumsum(jumps, axis=0) * np.array([0.5, 1.0]))

    def watch(self, scene: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Draw (n, 3) angles "yxz" of one person who watches a (n, 2) scene."""
        turns = self._turns(rng)  # (n, 2)
        noise = rng.normal(size=(self.samples, 3))
        keeps = np.exp(-STEP_S / self.pursuit_s)
        spread = np.array([0.35, 1.0]) * self.pursuit_deg_s * np.sqrt(1.0 - keeps**2)
        pull = np.array([3.0, 1.0]) * self.attraction_per_s * STEP_S
        place, speed, lean = scene[0] + rng.normal(0.0, (4.0, 25.0)), np.zeros(2), 0.0
        angles = np.empty((self.samples, 3))
        for n in range(self.samples):
            speed = keeps * speed + spread * noise[n, :2]
            place = place + speed * STEP_S + turns[n] + pull * (scene[n] - place)
            place[0] = np.clip(place[0], -80.0, 80.0)
            lean = 0.9 * lean + 0.6 * noise[n, 2]
            angles[n, [PITCH, YAW]] = place
            angles[n, ROLL] = lean + 0.05 * speed[1]
        angles[:, YAW] = wrapped_deg(angles[:, YAW])
        return angles

    def _turns(self, rng: np.random.Generator) -> FloatArray:
        """Draw (n, 2): what turns add to pitch and yaw in each sample."""
        added = np.zeros((self.samples, 2))
        for start in np.flatnonzero(rng.random(self.samples) < self.saccades_per_s * STEP_S):
            lasts_s = rng.uniform(*self.saccade_s)
            size = rng.laplace(0.0, self.saccade_deg / np.sqrt(2.0), 2) * np.array([0.2, 1.0])
            ends = np.arange(1, int(np.ceil(lasts_s / STEP_S)) + 1) * STEP_S / lasts_s
            done = ends.clip(max=1.0)
            # The smoothest way from rest to rest: its jerk is the least.
            path = np.concatenate([[0.0], done**3 * (10.0 - 15.0 * done + 6.0 * done**2)])
            part = np.diff(path)[: self.samples - start, None] * size
            added[start : start + len(part)] += part
        return added


def generate_viewports(
    motion: HeadMotion, videos: int, users: int, seed: int
) -> tuple[ViewportTrace, ...]:
    """Draw the traces of some people who all watch some videos; equal seeds give equal traces."""
    if videos < 1 or users < 1:
        raise InputError(f"videos and users must be at least 1, got {videos} and {users}")
    traces = []
    for video in range(1, videos + 1):
        scene = motion.scene(np.random.default_rng([seed, video]))
        for user in range(1, users + 1):
            angles = motion.watch(scene, np.random.default_rng([seed, video, user]))
            traces.append(ViewportTrace(video, user, angles.astype(np.float32)))
    return tuple(traces)
