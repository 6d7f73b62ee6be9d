"""Importer of MyDiffusionModel (github.com/Lionelding): ckpt.pt, ema_ckpt.pt."""

from pathlib import Path

from ml_collections import ConfigDict

from diffusion_jax.importers.imported_model import ImportedModel, build_experiment
from diffusion_jax.importers.state_dicts import (
    Layout,
    Source,
    conv,
    dense,
    fill,
    plain,
    read_state_dict,
)
from diffusion_jax.training.state import param_shapes

ARRAYS = {"kernel": "weight", "scale": "weight", "bias": "bias"}
# Layers of two convolutions with their norms.
DOUBLE = {
    "conv_0": ("0", conv),
    "norm_0": ("1", plain),
    "conv_1": ("3", conv),
    "norm_1": ("4", plain),
}
ATTENTION = {
    "norm": ("ln.", plain),
    "qkv": ("mha.in_proj_", dense),
    "out": ("mha.out_proj.", dense),
    "mlp_norm": ("ff_self.0.", plain),
    "expand": ("ff_self.1.", dense),
    "project": ("ff_self.3.", dense),
}
# A level's two pairs of convolutions: the residual one first.
PLACES = {"down": ("maxpool_conv.1", "maxpool_conv.2"), "up": ("conv.0", "conv.1")}


def read(path: Path, config: ConfigDict) -> ImportedModel:
    """Reads a model. Raises ValueError if the file is damaged or of another network."""
    state = read_state_dict(path, "model", "state_dict")
    settings = {"model.name": "attention_unet", "model.num_classes": 0}
    for field, name, axis in (
        ("model.channels", "outc.weight", 0),
        ("model.width", "outc.weight", 1),
        ("model.time_dim", "down1.emb_layer.1.weight", 1),
        ("model.num_classes", "label_emb.weight", 0),
    ):
        if name in state and state[name].ndim > axis:
            settings[field] = state[name].shape[axis]
        elif field != "model.num_classes":
            raise ValueError(f"{path} has no {name}; a model of MyDiffusionModel is expected")
    experiment = build_experiment(config, settings, path)
    like = param_shapes(experiment.model, experiment.config.data.resolution)
    return ImportedModel(experiment, fill(like, state, source_of, path), settings)


def source_of(path: tuple[str, ...]) -> Source:
    """Returns the source of a parameter."""
    module, *layers, array = path
    if module == "label_embedding":
        return Source("label_emb.weight")

    def of(name: str, layout: Layout) -> Source:
        return Source(f"{name}{ARRAYS[array]}", plain if array == "bias" else layout)

    def double(name: str, layer: str) -> Source:
        place, layout = DOUBLE[layer]
        return of(f"{name}.double_conv.{place}.", layout)

    if module == "head":
        return of("outc.", conv)
    if module == "stem":
        return double("inc", layers[0])
    way, index, *attention = module.split("_")
    if way == "middle":
        return double(f"bot{int(index) + 1}", layers[0])
    number = int(index) + 1 if way == "down" else 3 - int(index)
    if attention:
        place, layout = ATTENTION[layers[0]]
        return of(f"sa{number if way == 'down' else number + 3}.{place}", layout)
    if layers[0] == "embedding":
        return of(f"{way}{number}.emb_layer.1.", dense)
    return double(f"{way}{number}.{PLACES[way][layers[0] == 'change']}", layers[1])
