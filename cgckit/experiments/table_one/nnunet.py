"""nnU-Net's rows: its own commands, trained on the references of the other folds' subjects.

Its version 2 must be installed, in this environment or another whose commands are on the path. Source: Isensee et al.,
"nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", Nature Methods 18, 2021.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess  # nosec B404: runs nnU-Net's commands, by their own names and without a shell
import time
from pathlib import Path

import numpy as np
import torch

from cgckit.derivatives import Derivatives, write_volume
from cgckit.errors import BadInputError, PluginError
from cgckit.evaluation.compare import read_reference
from cgckit.experiments.experiment import Experiment
from cgckit.experiments.folds import Fold, Unit
from cgckit.experiments.results import OUTPUT, Outcome
from cgckit.exports.nnunet import BACKGROUND, LESION, write_description
from cgckit.images.cohort import Subject
from cgckit.images.volume import Volume

EPOCHS = (1, 5, 10, 20, 50, 100, 250, 500, 750, 1000, 2000, 4000, 8000)
"""The lengths of training that nnU-Net has trainers of; 1000 is its default."""
_PLAN, _TRAIN, _PREDICT = "nnUNetv2_plan_and_preprocess", "nnUNetv2_train", "nnUNetv2_predict"
_NUMBER, _CONFIGURATION = "1", "3d_fullres"


def is_installed() -> bool:
    """Whether its commands are on the path."""
    return all(shutil.which(command) for command in (_PLAN, _TRAIN, _PREDICT))


def compute(experiment: Experiment, unit: Unit) -> Outcome:
    """Train nnU-Net on a fold and score what it finds in the held-out subjects.

    Planning is not done twice, and a training goes on from nnU-Net's last checkpoint, one every 50 epochs.

    Raises:
        BadInputError: a subject lacks a modality, or its scans are not on one grid: nnU-Net takes no such subject.
        PluginError: a command failed.
    """
    place = experiment.work / "nnunet" / experiment.digest(unit)
    raw = place / "raw" / f"Dataset{int(_NUMBER):03d}_table1"
    started = time.monotonic()
    processes = str(torch.get_num_threads())
    if not (place / "planned").exists():
        shutil.rmtree(place, ignore_errors=True)
        _write(raw, experiment, unit.fold)
        _call(place, _PLAN, "-d", _NUMBER, "-c", _CONFIGURATION, "-npfp", processes, "-np", processes)
        (place / "planned").touch()
    device = ("-device", experiment.engine.device.type)
    chosen = ("-tr", _trainer(unit.arm.epochs))
    _call(place, _TRAIN, _NUMBER, _CONFIGURATION, "all", *chosen, *device, "--c")
    trained = time.monotonic()
    what = ("-d", _NUMBER, "-c", _CONFIGURATION, "-f", "all", *chosen, *device, "-npp", processes, "-nps", processes)
    _call(place, _PREDICT, "-i", str(raw / "imagesTs"), "-o", str(place / "found"), *what)
    scores = []
    for subject in unit.fold.test:
        found = Volume.load(place / "found" / f"{_name(experiment, subject)}.nii.gz", allow_constant=True)
        reference, volume = read_reference(experiment.references.files[subject.label], experiment.references.labels)
        scores.append(experiment.judge(unit, subject, OUTPUT, found.array >= 0.5, reference, volume.grid))
    seconds = {"training": round(trained - started, 1), "scoring": round(time.monotonic() - trained, 1)}
    training = {"subjects": len(unit.fold.train), "epochs": unit.arm.epochs, "configuration": _CONFIGURATION}
    digest, index = experiment.digest(unit), unit.fold.index
    return Outcome(unit.arm.name, True, index, unit.seed, digest, {}, training, seconds, tuple(scores))


def _trainer(epochs: int) -> str:
    """The name of nnU-Net's trainer of that many epochs."""
    special = {1000: "nnUNetTrainer", 1: "nnUNetTrainer_1epoch"}
    return special.get(epochs, f"nnUNetTrainer_{epochs}epochs")


def _name(experiment: Experiment, subject: Subject) -> str:
    """What nnU-Net calls a subject: it takes few characters."""
    return f"case{[other.label for other in experiment.cohort].index(subject.label):04d}"


def _write(raw: Path, experiment: Experiment, fold: Fold) -> None:
    """Write a fold as a data set: scans as they are, the references of those to be trained on as labels."""
    modalities = experiment.cohort.modalities
    for subject in (*fold.train, *fold.test):
        name, trained = _name(experiment, subject), subject in fold.train
        mask, volume = read_reference(experiment.references.files[subject.label], experiment.references.labels)
        for channel, modality in enumerate(modalities):
            if modality not in subject.files:
                raise BadInputError(f"{subject.source}: has no {modality}, and nnU-Net takes no subject that lacks one")
            scan = subject.load(modality)
            if not scan.grid.matches(volume.grid):
                raise BadInputError(f"{scan.path}: not on the grid of the reference, which nnU-Net needs")
            folder = raw / ("imagesTr" if trained else "imagesTs")
            # On one and the same grid to the last digit: nnU-Net compares.
            write_volume(folder / f"{name}_{channel:04d}.nii.gz", scan.array, volume.grid)
        if trained:
            labels = np.where(mask, LESION, BACKGROUND).astype(np.uint8)
            write_volume(raw / "labelsTr" / f"{name}.nii.gz", labels, volume.grid)
    values = {"background": BACKGROUND, "lesion": LESION}
    write_description(Derivatives(raw).root, modalities, values, len(fold.train))


def _call(place: Path, command: str, *arguments: str) -> None:
    """Run a command, whose words go to `nnunet.log`. An interrupted one ends with all processes of its own."""
    program = shutil.which(command)
    if program is None:
        raise PluginError(f"the command {command} is not installed any more")
    folders = {f"nnUNet_{name}": str(place / name) for name in ("raw", "preprocessed", "results")}
    processes = dict.fromkeys(("nnUNet_n_proc_DA", "nnUNet_def_n_proc"), str(torch.get_num_threads()))
    own = {**processes, **os.environ, **folders}
    place.mkdir(parents=True, exist_ok=True)
    log = place / "nnunet.log"
    with log.open("ab") as words:
        process = subprocess.Popen(  # nosec B603
            [program, *arguments], env=own, stdin=subprocess.DEVNULL, stdout=words, stderr=words, start_new_session=True
        )
        try:
            code = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    if code:
        last = " ".join(log.read_text(errors="replace").split())[-200:]
        raise PluginError(f"{command} failed (exit code {code}; {log}): {last}")
