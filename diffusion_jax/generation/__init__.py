"""Images from a trained model: sampling, editing, enlarging."""
