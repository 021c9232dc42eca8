"""Training of what makes faces from voices."""
