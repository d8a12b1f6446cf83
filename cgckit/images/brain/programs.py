"""Brain extractors that are programs of their own, used where their command is installed."""

from __future__ import annotations

import shutil
import subprocess  # nosec B404: runs the two programs below, by their own names and without a shell
import tempfile
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import nibabel as nib

from cgckit.arrays import BoolArray
from cgckit.errors import BadInputError, PluginError, UsageError
from cgckit.images.brain.extractor import BrainExtractor
from cgckit.images.brain.learned import best_of
from cgckit.images.brain.search import read_brain_mask
from cgckit.images.volume import Volume

_ORDER = ("t1", "t1ce", "flair", "t2")


class _Program(BrainExtractor):
    """A command that reads a NIfTI file and writes a mask.

    Attributes:
        command: its name.
    """

    command: ClassVar[str]

    @classmethod
    def is_installed(cls) -> bool:
        """Whether the command is on the path."""
        return shutil.which(cls.command) is not None

    @abstractmethod
    def arguments(self, image: Path, mask: Path) -> list[str]:
        """What the command is given to write the brain in `image` to `mask`, both NIfTI files."""

    def extract(self, volumes: Mapping[str, Volume]) -> BoolArray:
        """Return the brain, [H, W, L] bool.

        Raises:
            UsageError: the command is not installed.
            PluginError: it failed, or wrote no mask.
            BadInputError: it finds no brain.
        """
        program = shutil.which(self.command)
        if program is None:
            raise UsageError(f"the command {self.command} is not installed; choose another --brain")
        volume = best_of(volumes, _ORDER)
        with tempfile.TemporaryDirectory(prefix="cgckit-brain-") as folder:
            image, mask = Path(folder, "head.nii.gz"), Path(folder, "head_bet.nii.gz")
            nib.save(nib.Nifti1Image(volume.array, volume.grid.affine), image)
            ran = subprocess.run(  # nosec B603
                [program, *self.arguments(image, mask)], cwd=folder, capture_output=True, text=True, check=False
            )
            if ran.returncode or not mask.exists():
                last = " ".join(ran.stderr.split())[-300:]
                raise PluginError(f"{self.command} failed on {volume.path} (exit code {ran.returncode}): {last}")
            try:
                return read_brain_mask(mask, volume.grid)
            except BadInputError as error:
                raise BadInputError(f"{volume.path}: {self.command} finds no brain in it; give a brain mask") from error


@dataclass
class SynthStrip(_Program):
    """SynthStrip, which takes every contrast: FreeSurfer's command `mri_synthstrip`.

    Source: Hoopes et al., "SynthStrip: skull-stripping for any brain image", NeuroImage 260, 2022.

    Attributes:
        border: how far the mask lies outside the brain's surface [mm].
    """

    summary: ClassVar[str] = "FreeSurfer's mri_synthstrip, where it is installed"
    command: ClassVar[str] = "mri_synthstrip"

    border: float = 1.0

    def arguments(self, image: Path, mask: Path) -> list[str]:
        """Of `mri_synthstrip`."""
        return ["--image", str(image), "--mask", str(mask), "--border", f"{self.border:g}"]


@dataclass
class HdBet(_Program):
    """HD-BET 2, made for tumours in T1, T1 with contrast agent, FLAIR and T2: the command `hd-bet`, on the CPU.

    Source: Isensee et al., "Automated brain extraction of multisequence MRI using artificial neural networks", Human
    Brain Mapping 40(17), 2019.
    """

    summary: ClassVar[str] = "the command hd-bet, where it is installed"
    command: ClassVar[str] = "hd-bet"

    def arguments(self, image: Path, mask: Path) -> list[str]:
        """Of `hd-bet`, which puts the mask beside its output under a name of its own."""
        out = image.with_name(mask.name.replace("_bet", ""))
        given = ["-i", str(image), "-o", str(out), "-device", "cpu", "--disable_tta"]
        return [*given, "--save_bet_mask", "--no_bet_image"]
