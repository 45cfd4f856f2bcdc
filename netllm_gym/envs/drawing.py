"""What the frames of all environments have in common."""

from importlib.util import find_spec

from netllm_gym.errors import MissingDataError

SIZE_INCHES, DOTS_PER_INCH = (8.0, 4.8), 100  # 800 x 480 pixels
# Okabe and Ito's colours, which colour-blind people tell apart, the pale ones darkened.
BLUE, ORANGE, RED, GREEN, GREY = "#0072B2", "#B87A00", "#D55E00", "#007A5A", "#D9DEE3"
MORE_COLOURS = ("#CC79A7", "#56B4E9", "#6A4C93", "#8C8C00", "#444444")


def check_can_draw() -> None:
    """Refuse to draw where matplotlib is missing."""
    if find_spec("matplotlib") is None:
        raise MissingDataError(
            "render_mode rgb_array must have matplotlib to draw with, got no such package: "
            "pip install 'netllm-gym[report]'"
        )
