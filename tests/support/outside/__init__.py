"""A modality of another package: what a user writes to bring depth maps, two files and nothing else."""
