"""Training: one step, its state, and what a run keeps and reports."""
