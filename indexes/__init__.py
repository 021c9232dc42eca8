"""Index recipes, the sweep that compares them, and the demo's catalogs; run from a checkout."""
