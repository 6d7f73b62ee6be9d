"""Flag that prints the classes of a run in place of sampling."""

from pathlib import Path

from absl import flags

CLASSES = flags.DEFINE_bool(
    "classes", False, "Print the indices and the names of the run's classes, and end."
)


def print_classes(workdir: Path) -> int:
    """Prints a line for each class, such as "#4 goldfish", and returns the exit code."""
    from diffusion_jax.generation.class_labels import class_list
    from diffusion_jax.generation.guidance_models import classes_of
    from diffusion_jax.workdir.run_files import load_classes, load_config

    number, names = classes_of(load_config(workdir), load_classes(workdir))
    print("\n".join(class_list(number, names)) or "The model has no classes")
    return 0
