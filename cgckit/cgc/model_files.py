"""A trained model on disk: `model.safetensors` with the weights and `model.json` with everything else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from cgckit.atomic import atomic_write
from cgckit.cgc.network import CGCNet
from cgckit.cgc.presets import Settings
from cgckit.errors import BadInputError, UsageError

WEIGHTS, CARD = "model.safetensors", "model.json"


@dataclass(frozen=True)
class TrainedModel:
    """A network in evaluation mode with what is needed to apply it to new scans."""

    network: CGCNet
    settings: Settings
    modalities: tuple[str, ...]

    def fingerprint(self) -> str:
        """SHA-256 of weights, settings and modalities."""
        digest = hashlib.sha256(json.dumps([self.settings.to_json(), self.modalities]).encode())
        for name, value in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def build_network(settings: Settings, modalities: tuple[str, ...]) -> CGCNet:
    """The untrained network of `settings` for that many modalities."""
    return CGCNet(len(modalities), settings.widths, settings.projection)


def save_model(folder: Path, model: TrainedModel, provenance: dict[str, object]) -> None:
    """Write the weights, then the card that makes them complete."""
    state = {name: value.cpu().contiguous() for name, value in model.network.state_dict().items()}
    with atomic_write(folder / WEIGHTS) as temporary:
        save_file(state, temporary)
    card = {**provenance, "modalities": list(model.modalities), "settings": model.settings.to_json()}
    with atomic_write(folder / CARD) as temporary:
        temporary.write_text(json.dumps(card, indent=2) + "\n")


def load_model(folder: Path, device: torch.device | None = None) -> TrainedModel:
    """Read what `save_model` wrote; `folder` may also be a run's output folder.

    The network is put on `device`, by default the CPU, in the memory format that it is trained in.

    Raises:
        BadInputError: nothing there, or not a model of cgckit.
    """
    folder = Path(folder)
    if not (folder / CARD).exists() and (folder / "model" / CARD).exists():
        folder = folder / "model"
    try:
        card = json.loads((folder / CARD).read_text())
        settings = Settings.from_json(card["settings"])
        modalities = tuple(card["modalities"])
        network = build_network(settings, modalities)
        network.load_state_dict(load_file(folder / WEIGHTS))
    except FileNotFoundError:
        raise BadInputError(
            f"{folder}: holds no model; give the folder that `cgckit refine --out` wrote, or its model folder"
        ) from None
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError, UsageError) as error:
        reason = str(error).splitlines()[0]
        raise BadInputError(f"{folder}: not a model that this version of cgckit reads ({reason})") from None
    network = network.to(device or torch.device("cpu"), memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return TrainedModel(network.eval(), settings, modalities)
