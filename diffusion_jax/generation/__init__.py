"""Sampling, editing and enlarging of images with a trained model, compiled on all devices."""
