"""`Model`: a trained network with all that is needed to apply it to new scans, in memory and on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from cgckit.arrays import FloatArray
from cgckit.cgc import inference
from cgckit.cgc.parts import Judged
from cgckit.cgc.settings import InferenceSettings, Settings, TrainingSettings
from cgckit.errors import BadInputError, CgckitError, UsageError
from cgckit.images.case import Case, require_case
from cgckit.nets.cgc_net import CGCNet
from cgckit.nets.loop import is_finite, own_generators
from cgckit.sealed import DamagedError, file_digest, read_json, read_tensors, write_json, write_tensors

WEIGHTS, CARD = "model.safetensors", "model.json"
_MOST_MODALITIES = 64


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network in evaluation mode.

    Attributes:
        network: the network.
        settings: those that it was trained with, and those that it is applied with.
        modalities: the channels that it takes.

    Example:
        >>> model = Model.load("refined/")  # doctest: +SKIP
        >>> probability = model.segment(Case.from_arrays({"flair": flair}, affine=affine))  # doctest: +SKIP
    """

    network: CGCNet
    settings: Settings
    modalities: tuple[str, ...]

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu") -> Self:
        """Read a model: `model.safetensors` with the weights and `model.json` with everything else.

        Args:
            folder: an output folder of `cgckit.refine`, or the model folder in it.
            device: where the network is put, in the memory format that it is trained in.

        Raises:
            BadInputError: nothing there, not a model of cgckit, or one that was damaged.
        """
        folder = Path(folder)
        if not (folder / CARD).exists() and (folder / "model" / CARD).exists():
            folder = folder / "model"
        try:
            card = read_json(folder / CARD)
            state, _ = read_tensors(folder / WEIGHTS)
            if card.get("weights") != file_digest(folder / WEIGHTS):
                raise DamagedError("weights and card do not belong together")
            settings = Settings.from_json(card["settings"])
            modalities = _modalities(card["modalities"])
            with own_generators():  # it begins with weights that are drawn
                network = build_network(settings, modalities)
            network.load_state_dict(state)
        except FileNotFoundError:
            raise BadInputError(
                f"{folder}: holds no model; give the folder that `cgckit refine --out` wrote, or its model folder"
            ) from None
        except DamagedError as error:
            raise BadInputError(f"{folder}: the model is damaged ({error}); copy it again, or train it anew") from error
        except (KeyError, TypeError, ValueError, RuntimeError, MemoryError, OSError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise BadInputError(f"{folder}: not a model that this version of cgckit reads ({reason})") from None
        if not is_finite(network):
            raise BadInputError(f"{folder}: the model holds weights that are not finite; train it anew")
        network = network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        return cls(network.eval(), settings, modalities)

    def save(self, folder: Path, provenance: Mapping[str, object]) -> None:
        """Write the weights, then the card that makes them complete, with `provenance` in it."""
        state = {name: value.cpu().contiguous() for name, value in self.network.state_dict().items()}
        write_tensors(folder / WEIGHTS, state)
        card = {**provenance, "modalities": list(self.modalities), "settings": self.settings.to_json()}
        card["weights"] = file_digest(folder / WEIGHTS)
        write_json(folder / CARD, card)

    def fingerprint(self) -> str:
        """SHA-256 of weights, training settings and modalities."""
        digest = hashlib.sha256(json.dumps([self.settings.training.to_json(), self.modalities]).encode())
        for name, value in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def with_settings(self, settings: InferenceSettings | Mapping[str, Any]) -> Self:
        """The same network, applied with other inference settings.

        Args:
            settings: all of them, or values that replace those of the model.

        Raises:
            UsageError: settings of a training, no inference setting of that name, or a value that it does not take.
        """
        if isinstance(settings, TrainingSettings):
            raise UsageError(
                "settings: the network is trained already; give InferenceSettings, as settings.inference is"
            )
        chosen = settings if isinstance(settings, InferenceSettings) else self.settings.inference.override(settings)
        return dataclasses.replace(self, settings=Settings.of(self.settings.training, chosen))

    def segment(self, case: Case, prior: Tensor | None = None, *, doubtful: bool = False) -> FloatArray:
        """Probability of lesion, [H, W, L] float32 on the grid that the case's images came on; lesion is 0.5 or more.

        Args:
            case: the subject, with the model's modalities among its own, as `Case.from_arrays` makes it.
            prior: [H, W, L] on the case's own grid, what a prior says of the subject; see
                `cgckit.cgc.inference.segment`.
            doubtful: the prior is no example of lesion, but may be weighed.

        Raises:
            BadInputError: the case lacks a modality, or is none.
            CgckitError: the network gives values that are not finite.
        """
        return self.judge(case, prior, doubtful=doubtful)[0]

    def judge(self, case: Case, prior: Tensor | None = None, *, doubtful: bool = False) -> tuple[FloatArray, Judged]:
        """What `segment` gives, and the same on the case's own grid with what the network says of it."""
        case = self._fitting(case)
        found = inference.segment(self.network, self.settings, case, prior, doubtful=doubtful)
        return self._native(case, found.probability), found

    def uncertainty(self, case: Case, prior: Tensor | None = None, *, doubtful: bool = False) -> FloatArray:
        """Standard deviation of that probability over `uncertainty_views` augmented views, on the same grid."""
        case = self._fitting(case)
        found = inference.uncertainty(self.network, self.settings, case, prior, doubtful=doubtful)
        return self._native(case, found)

    def _native(self, case: Case, found: Tensor) -> FloatArray:
        """A map on the grid that the case's images came on."""
        native = np.asarray(case.to_native(found.numpy()), np.float32)
        if not np.isfinite(native).all():
            raise CgckitError(f"{case.source or case.subject}: the model gives values that are not finite numbers")
        return native

    def _fitting(self, case: Case) -> Case:
        """The case with the model's channels."""
        require_case(case)
        if missing := [name for name in self.modalities if name not in case.modalities]:
            raise BadInputError(
                f"subject {case.source or case.subject} has no {', '.join(missing)}; "
                f"the model takes {', '.join(self.modalities)}"
            )
        return case.with_channels(self.modalities)


def _modalities(names: object) -> tuple[str, ...]:
    """The modalities of a card; ValueError for what are none."""
    if not isinstance(names, list) or not 1 <= len(names) <= _MOST_MODALITIES:
        raise ValueError(f"modalities: a list of 1 to {_MOST_MODALITIES} names is expected")
    if not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise ValueError("modalities: each is to have a name of its own")
    return tuple(names)


def build_network(settings: TrainingSettings, modalities: tuple[str, ...]) -> CGCNet:
    """The untrained network of `settings` for that many modalities."""
    return CGCNet(len(modalities), settings.widths, settings.projection)


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> Model:
    """`Model.load`."""
    return Model.load(folder, device)
