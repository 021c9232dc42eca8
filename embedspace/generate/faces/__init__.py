"""Faces made from voices."""

from embedspace.generate.faces.maker import FaceMaker

__all__ = ["FaceMaker"]
