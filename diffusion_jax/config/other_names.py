"""Settings under the names that other programs give them, and the nearest known names."""

import difflib
from collections.abc import Iterable

# The name elsewhere -> the name here, of a setting, a config field or a flag.
OTHER_NAMES = {
    "lr": "learning_rate",
    "sampler": "solver",
    "scheduler": "solver",
    "num_inference_steps": "steps",
    "num_sampling_steps": "steps",
    "timestep_respacing": "steps",
    "n_steps": "steps",
    "nfe": "steps",
    "train_num_steps": "steps",
    "epochs": "steps",
    "cfg": "cfg_scale",
    "guidance_scale": "cfg_scale",
    "cond_scale": "cfg_scale",
    "w": "guidance",
    "num_samples": "count",
    "num_images": "count",
    "n_samples": "count",
    "classes": "labels",
    "class": "labels",
    "class_idx": "labels",
    "batch": "batch_size",
    "train_batch_size": "batch_size",
    "image_size": "resolution",
    "img_size": "resolution",
    "size": "resolution",
    "gradient_accumulate_every": "micro_batches",
    "gradient_accumulation_steps": "micro_batches",
    "ema_rate": "decay",
    "ema_decay": "decay",
    "num_channels": "width",
    "dim": "width",
    "ckpt": "checkpoint",
    "seeds": "seed",
    "outdir": "out",
    "output_dir": "workdir",
    "results_folder": "workdir",
    "logdir": "workdir",
    "log_dir": "workdir",
    "network": "workdir",
    "data_path": "data_dir",
}


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Returns the known names that are probably meant, dotted ones by their last part; or none."""
    known = list(known)
    wanted = OTHER_NAMES.get(name.rpartition(".")[2])
    found = [each for each in known if wanted and each.rpartition(".")[2] == wanted]
    return found or difflib.get_close_matches(name, known, n=1)


def guess(name: str, known: Iterable[str]) -> str:
    """Returns "; did you mean solver?" or nothing, to add to an error."""
    found = nearest(name, known)
    return f"; did you mean {' or '.join(found)}?" if found else ""
