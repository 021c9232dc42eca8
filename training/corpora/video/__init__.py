"""Rendered clips: pictures of the corpora that move by physical rules, and sounds at the impacts."""
