"""Networks, one per file."""

from diffusion_jax.models.adm import ADM
from diffusion_jax.models.attention_unet import AttentionUNet
from diffusion_jax.models.dit import DiT
from diffusion_jax.models.edm2 import EDM2
from diffusion_jax.models.network import Network
from diffusion_jax.models.noisy_classifier import NoisyClassifier
from diffusion_jax.models.plain_unet import PlainUNet
from diffusion_jax.models.song import SongUNet
from diffusion_jax.models.unet import UNet

# By the name in `config.model.name`. Further fields of the section are the constructor's arguments.
MODELS: dict[str, type[Network]] = {
    "unet": UNet,
    "dit": DiT,
    "adm": ADM,
    "attention_unet": AttentionUNet,
    "plain_unet": PlainUNet,
    "edm2": EDM2,
    "noisy_classifier": NoisyClassifier,
    "song": SongUNet,
}

__all__ = [
    "ADM",
    "EDM2",
    "MODELS",
    "AttentionUNet",
    "DiT",
    "Network",
    "NoisyClassifier",
    "PlainUNet",
    "SongUNet",
    "UNet",
]
