"""A web page to sample and edit images with a trained model."""
