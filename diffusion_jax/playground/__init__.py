"""A page in the browser to sample and edit with a trained model."""
