"""Pictures of one kind as another kind, learnt from two folders without pairs."""
