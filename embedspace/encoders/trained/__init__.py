"""What training adds to a tower: a projection into the shared space, a correction, tensors of its own that changed."""

from embedspace.encoders.trained.files import (
    apply_tuned,
    load_correction,
    load_projection,
    save_projection,
    save_tuned,
)
from embedspace.encoders.trained.modules import Correction, CorrectionConfig, Projection, ProjectionConfig

__all__ = [
    "Correction",
    "CorrectionConfig",
    "Projection",
    "ProjectionConfig",
    "apply_tuned",
    "load_correction",
    "load_projection",
    "save_projection",
    "save_tuned",
]
