"""`--brain auto`: what an empty background leaves, the skull in CT, else the best that is installed; and programs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from cgckit.errors import BadInputError, PluginError, UsageError
from cgckit.images.brain import AutoBrain, CoarseSearch, automatic, extract_brain, learned, resolve_brain
from cgckit.images.brain.programs import HdBet, SynthStrip
from cgckit.images.brain.skull import Skull
from cgckit.images.preparation import Known, Preparation
from cgckit.images.volume import Volume

AFFINE = np.diag([4.0, 4, 4, 1])
MASKS = "import nibabel as nib, numpy as np, sys\n"
MASKS += "def write(image, mask, keep):\n"
MASKS += "    scan = nib.load(image)\n"
MASKS += "    found = (np.asarray(scan.dataobj) > 70) & keep\n"
MASKS += "    nib.save(nib.Nifti1Image(found.astype(np.uint8), scan.affine), mask)\n"


def ball(radius: float) -> np.ndarray:
    at = (np.indices((44, 48, 44)).T - (21.5, 23.5, 21.5)) * 4
    return (np.linalg.norm(at, axis=-1) < radius).T


def stripped() -> dict[str, Volume]:
    texture = np.random.default_rng(0).uniform(80, 120, (44, 48, 44))
    return {"t1": Volume.of(np.where(ball(60), texture, 0), AFFINE, "stripped.nii.gz")}


def whole() -> dict[str, Volume]:
    image = np.random.default_rng(0).uniform(0, 10, (44, 48, 44))
    image[ball(80)], image[ball(72)], image[ball(60)] = 60, 20, 100
    return {"flair": Volume.of(image, AFFINE, "flair.nii.gz"), "t1": Volume.of(image, AFFINE, "t1.nii.gz")}


def ct() -> dict[str, Volume]:
    image = np.full((44, 48, 44), -1000.0)
    image[ball(80)], image[ball(72)], image[ball(64)] = 20, 1200, 35
    return {"ct": Volume.of(image + np.random.default_rng(0).normal(0, 3, image.shape), AFFINE, "ct.nii.gz")}


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a command on the path, which is a Python script that begins with `write(image, mask, keep)`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def add(name: str, script: str) -> None:
        (folder / name).write_text(f"#!{sys.executable}\n{MASKS}{script}")
        (folder / name).chmod(0o755)

    return add


SYNTHSTRIP = "write(sys.argv[2], sys.argv[4], True)\n"
HD_BET = "out = sys.argv[sys.argv.index('-o') + 1]\nwrite(sys.argv[2], out.replace('.nii.gz', '_bet.nii.gz'), True)\n"


def test_an_empty_background_leaves_the_brain(command: Callable[[str, str], None]) -> None:
    assert np.array_equal(extract_brain(AutoBrain(), stripped()), extract_brain(CoarseSearch(), stripped()))


def test_in_ct_it_is_the_inside_of_the_skull() -> None:
    found = extract_brain(AutoBrain(), ct())
    assert np.array_equal(found, extract_brain(Skull(), ct()))
    assert 2 * (found & ball(64)).sum() / (found.sum() + ball(64).sum()) > 0.95
    assert AutoBrain().notes(ct()) == []


def test_the_skull_is_of_ct_alone() -> None:
    with pytest.raises(BadInputError, match=r"flair\.nii\.gz: no CT of a whole head"):
        extract_brain(Skull(), whole())


@pytest.mark.parametrize(
    ("commands", "package", "best"),
    [
        ({"mri_synthstrip": "", "hd-bet": ""}, True, "synthstrip"),
        ({"hd-bet": ""}, True, "hd-bet"),
        ({}, True, "deepbet"),
        ({}, False, "coarse"),
    ],
)
def test_whole_heads_get_the_best_that_is_installed(
    commands: Mapping[str, str],
    package: bool,
    best: str,
    command: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, script in commands.items():
        command(name, script)
    monkeypatch.setattr(learned, "find_spec", lambda name: object() if package else None)
    brain = AutoBrain()
    assert brain.head == best
    assert type(brain.for_head(whole())) is type(resolve_brain(best))
    (note,) = brain.notes(whole())
    assert note.startswith(f"brain found by {best}")
    assert ("cgckit[brain]" in note) == (best == "coarse")
    assert automatic.AutoBrain(head="coarse").head == "coarse", "what is asked for is taken"


@pytest.mark.parametrize(
    ("kind", "name", "script"), [(SynthStrip, "mri_synthstrip", SYNTHSTRIP), (HdBet, "hd-bet", HD_BET)]
)
def test_programs_are_given_a_file_and_give_a_mask(
    kind: type[SynthStrip | HdBet], name: str, script: str, command: Callable[[str, str], None]
) -> None:
    with pytest.raises(UsageError, match=f"the command {name} is not installed"):
        extract_brain(kind(), whole())
    command(name, script)
    assert np.array_equal(extract_brain(kind(), whole()), ball(60))
    command(name, script.replace("True", "False"))
    with pytest.raises(BadInputError, match=rf"t1\.nii\.gz: {name} finds no brain"):
        extract_brain(kind(), whole())
    command(name, "sys.exit('no\\nGPU')\n")
    with pytest.raises(PluginError, match=rf"{name} failed on t1\.nii\.gz \(exit code 1\): no GPU"):
        extract_brain(kind(), whole())


def test_without_its_package_the_learned_extractor_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepbet", None)
    with pytest.raises(UsageError, match=r"pip install 'cgckit\[brain\]'"):
        extract_brain(learned.DeepBet(), whole())


@pytest.mark.parametrize("word", ["maybe", "table.csv", "1"])
def test_other_words_than_auto_yes_and_no_are_refused(word: str) -> None:
    with pytest.raises(UsageError, match=f"--prepared: '{word}' is none of auto, yes and no"):
        Preparation.of(prepared=word)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("subject\tready\na\tyes\n", "the columns subject and prepared are expected"),
        ("subject\tprepared\na\n", "the columns subject and prepared are expected"),
        ("subject\tprepared\na\tperhaps\n", "'perhaps' is none of auto, yes and no"),
        ("", "the columns subject and prepared are expected"),
        (None, "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_understood_is_named(text: str | None, error: str, tmp_path: Path) -> None:
    path = tmp_path / "ready.tsv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInputError, match=rf"ready\.tsv: .*{error}"):
        Known.of(path)
