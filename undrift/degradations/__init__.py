"""What happens to a photograph: ten degradations, each a law over operators. `README.md` has the table."""

from .base import Degradation, Diagonal, Linear, Operator
from .masks import Inpainting
from .optics import Haze, MotionBlur, Shadow
from .raindrop import RainDrop
from .sensor import JPEG, LowLight, Noise
from .weather import Rain, Snow

__all__ = [
    "JPEG",
    "TASKS",
    "Degradation",
    "Diagonal",
    "Haze",
    "Inpainting",
    "Linear",
    "LowLight",
    "MotionBlur",
    "Noise",
    "Operator",
    "Rain",
    "RainDrop",
    "Shadow",
    "Snow",
]

# The ten tasks of DA-CLIP (Luo et al., 2023, arXiv:2310.01018): its folder names, in its order.
TASKS: dict[str, Degradation] = {
    "motion-blurry": MotionBlur(),
    "hazy": Haze(),
    "jpeg-compressed": JPEG(),
    "low-light": LowLight(),
    "noisy": Noise(),
    "raindrop": RainDrop(),
    "rainy": Rain(),
    "shadowed": Shadow(),
    "snowy": Snow(),
    "uncompleted": Inpainting(),
}
