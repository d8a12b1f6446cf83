"""`python -m benchmarks stages`: seconds a volume of every stage, against what a user would run instead.

One subject goes through each stage some times, in rounds in which the rival's turn follows cgckit's own; `stages.md`
has the medians and their ratio. The rivals are libraries as they are called in their own examples: nibabel to read and
write, MONAI's transforms, scikit-learn's Gaussian mixture on the voxels of the brain, scikit-image's morphological
Chan-Vese, and MONAI's SegResNet of eight filters, to train on the same crops and to apply in the same windows.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from torch import Tensor

from benchmarks.machine import description
from cgckit.cgc.crops import CropSampler, write_case
from cgckit.cgc.inference import network_log_odds, without_network
from cgckit.cgc.model import Model, build_network
from cgckit.cgc.objective import Objective
from cgckit.cgc.settings import PRESETS
from cgckit.derivatives import Derivatives
from cgckit.images.brain import resolve_brain
from cgckit.images.case import Case
from cgckit.images.cohort import Cohort, Subject
from cgckit.images.preparation import prepare, resample_case
from cgckit.images.volume import Volume
from cgckit.phantom import write_cohort
from cgckit.priors.base import predict_checked
from cgckit.priors.resolve import resolve_prior
from cgckit.starting import starting_log_odds

RESULTS = Path(__file__).parent / "results"
SETTINGS = PRESETS["light"]


@dataclass(frozen=True)
class Stage:
    """What is measured: cgckit's way and, where there is one, the rival's."""

    name: str
    own: Callable[[], object]
    rival: str = ""
    other: Callable[[], object] | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cohort", type=Path, help="scans, of which the first is taken; by default a simulated one")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every stage (default %(default)s)")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="folder of stages.md (default benchmarks/results)"
    )


def run(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="stages-") as folder:
        work = Path(folder)
        scans = arguments.cohort or write_cohort(work / "scans", subjects=1)
        cohort = Cohort.find(scans)
        case, lines = None, []
        for stage in _stages(cohort.subjects[0], cohort.modalities, work):
            own, other = _medians(stage, arguments.rounds)
            lines.append((stage, own, other))
            print(_line(stage, own, other), flush=True)
        case = prepare(cohort.subjects[0], cohort.modalities, resolve_brain("coarse"))
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "stages.md").write_text(_page(case, lines))


def _stages(subject: Subject, modalities: tuple[str, ...], work: Path) -> Iterator[Stage]:
    torch.manual_seed(0)
    brain = resolve_brain("coarse")
    case = prepare(subject, modalities, brain)
    files = [subject.files[name] for name in modalities]
    flair = case.image[0].numpy()
    yield Stage("read", lambda: [Volume.load(file) for file in files], "nibabel", lambda: _read(files))
    yield Stage(
        "read, find brain, resample, normalise",
        lambda: prepare(subject, modalities, brain),
        "MONAI: load, orient, resample, crop, normalise",
        _monai_preparation(files),
    )
    for name, rival, other in (
        ("gmm", "scikit-learn: mixture of 4 on the brain", lambda: _mixture(case)),
        ("mumford-shah", "scikit-image: morphological Chan-Vese, 100 steps", lambda: _chan_vese(flair)),
    ):
        prior = resolve_prior(name, [])
        starting_log_odds(_fresh(case))  # weights are read once
        yield Stage(f"prior {name}", lambda prior=prior: predict_checked(prior, _fresh(case)), rival, other)  # type: ignore[misc]
    target = predict_checked(resolve_prior("gmm", []), case).probability
    example = work / "example.safetensors"
    coarse = resample_case(case, SETTINGS.spacing)
    write_case(example, case, target, SETTINGS.training)
    sample = CropSampler([example], SETTINGS.crop, SETTINGS.batch, SETTINGS.lesion_share, SETTINGS.augment, 0)
    yield Stage("draw and augment a batch of crops", lambda: sample(0))
    network, rival_network = build_network(SETTINGS.training, modalities), _segresnet(len(modalities))
    crops = sample(0)
    yield Stage("training step", _own_step(network, crops), "MONAI: SegResNet", _rival_step(rival_network, crops))
    network.eval()
    rival_network.eval()
    yield Stage(
        "network on the volume, both mirror images",
        lambda: network_log_odds(network, SETTINGS, coarse.image),
        "MONAI: SegResNet in sliding windows, both",
        lambda: _windows(rival_network, coarse.image),
    )
    yield Stage("starting network", lambda: starting_log_odds(_fresh(case)))
    yield Stage(
        "appearance model, prior and starting network together",
        lambda: without_network(SETTINGS.inference, _fresh(case), target),
    )
    model = Model(network, SETTINGS, modalities)
    yield Stage("all of refining a volume but writing", lambda: model.judge(_fresh(case), target))
    out = Derivatives.create(work / "out")
    native = np.asarray(case.to_native(target), np.float32)
    yield Stage(
        "write mask and probability",
        lambda: (
            out.write_mask(subject.label, native >= 0.5, subject.frame),
            out.write_probability(subject.label, native, subject.frame),
        ),
        "nibabel",
        lambda: _write(work, native, files[0]),
    )


def _fresh(case: Case) -> Case:
    """The case as an object that nothing is remembered of."""
    return dataclasses.replace(case)


def _read(files: list[Path]) -> None:
    for file in files:
        np.asanyarray(nib.load(file).dataobj)


def _write(work: Path, array: Any, like: Path) -> None:
    affine = nib.load(like).affine
    nib.save(nib.Nifti1Image((array >= 0.5).astype(np.uint8), affine), work / "mask.nii.gz")
    nib.save(nib.Nifti1Image(array, affine), work / "probability.nii.gz")


def _monai_preparation(files: list[Path]) -> Callable[[], object]:
    from monai.transforms import (
        Compose,
        CropForeground,
        EnsureChannelFirst,
        LoadImage,
        NormalizeIntensity,
        Orientation,
        Spacing,
    )

    steps = Compose(
        [
            LoadImage(image_only=True),
            EnsureChannelFirst(),
            Orientation("RAS", labels=None),
            Spacing(1.0),
            CropForeground(),
            NormalizeIntensity(nonzero=True),
        ]
    )
    return lambda: [steps(file) for file in files]


def _mixture(case: Case) -> None:
    from sklearn.mixture import GaussianMixture

    voxels = case.image[:, case.brain].T.numpy()
    GaussianMixture(4, random_state=0).fit(voxels).predict_proba(voxels)


def _chan_vese(flair: Any) -> None:
    from skimage.segmentation import morphological_chan_vese

    morphological_chan_vese(flair, num_iter=100, init_level_set="checkerboard")


def _segresnet(channels: int) -> torch.nn.Module:
    from monai.networks.nets.segresnet import SegResNet

    return SegResNet(spatial_dims=3, init_filters=8, in_channels=channels, out_channels=1)


def _own_step(network: Any, crops: Any) -> Callable[[], object]:
    network.train()
    objective = Objective(SETTINGS.patch_size, SETTINGS.patch_threshold, SETTINGS.temperature)
    optimizer = torch.optim.Adam(network.parameters(), SETTINGS.learning_rate)

    def step() -> None:
        loss = objective(network(crops.image), crops.prior, crops.trusted)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _rival_step(network: torch.nn.Module, crops: Any) -> Callable[[], object]:
    from monai.losses.dice import DiceCELoss

    network.train()
    loss_of = DiceCELoss(sigmoid=True)
    optimizer = torch.optim.Adam(network.parameters(), SETTINGS.learning_rate)

    def step() -> None:
        loss = loss_of(network(crops.image), crops.prior[:, None])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


@torch.inference_mode()
def _windows(network: torch.nn.Module, image: Tensor) -> None:
    from monai.inferers.utils import sliding_window_inference

    for one in (image, image.flip(1)):
        sliding_window_inference(
            one[None], SETTINGS.crop, SETTINGS.batch, network, overlap=SETTINGS.overlap, mode="gaussian"
        )


def _medians(stage: Stage, rounds: int) -> tuple[float, float | None]:
    own, other = [], []
    for _ in range(rounds):
        own.append(_seconds(stage.own))
        if stage.other is not None:
            other.append(_seconds(stage.other))
    return statistics.median(own), statistics.median(other) if other else None


def _seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _line(stage: Stage, own: float, other: float | None) -> str:
    ratio = "" if other is None else f"{own / other:.2f}"
    return f"| {stage.name} | {own:.2f} | {stage.rival} | {'' if other is None else f'{other:.2f}'} | {ratio} |"


def _page(case: Case, lines: list[tuple[Stage, float, float | None]]) -> str:
    shape = " x ".join(map(str, case.grid.shape))
    machine = description(torch.device("cpu"))
    return "\n".join(
        [
            f"Written by `python -m benchmarks stages`: medians of rounds in turn, seconds a volume. One subject, "
            f"{', '.join(case.modalities)}, {shape} voxels of {case.spacing[0]:g} mm. {machine['threads']} threads of "
            f"{machine['device']}, commit {machine['commit']}.",
            "",
            "| stage | cgckit [s] | instead | [s] | ratio |",
            "|---|---|---|---|---|",
            *(_line(*line) for line in lines),
            "",
        ]
    )
