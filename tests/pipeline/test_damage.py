"""Files of a run that were damaged on disk: what can be made again is, and nothing wrong is taken for right."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typing_extensions import Self

import cgckit
from cgckit.cgc.crops import CropSampler
from cgckit.derivatives import Derivatives
from cgckit.errors import BadInputError, CgckitError
from cgckit.images.case import Case
from cgckit.priors.base import Prior
from cgckit.sealed import read_json

QUICK = {
    "spacing": 4.0,
    "crop": (16, 16, 16),
    "widths": (4, 4, 4, 4),
    "projection": 4,
    "batch": 1,
    "steps": 30,
    "mirror": False,
}
WriteCohort = Callable[..., Path]


@dataclass
class Learned(Prior):
    """Bright FLAIR; how bright is learned from the cohort."""

    def __post_init__(self) -> None:
        self.level = torch.zeros(())
        self.fits = self.calls = 0

    def fit(self, cases: Sequence[Case]) -> Self:
        self.fits += 1
        self.level = torch.stack([case.image.max() for case in cases]).mean() / 4
        return self

    def predict(self, case: Case) -> Tensor:
        self.calls += 1
        return ((case.channel("flair") > self.level) & case.brain).float()

    def state(self) -> Mapping[str, Tensor]:
        return {"level": self.level}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.level = state["level"]


def run(scans: Path, out: Path, **changes: object) -> cgckit.Run:
    options: dict[str, object] = {"prior": Learned(), "settings": QUICK, "device": "cpu"} | changes
    return cgckit.refine(scans, out=out, **options)  # type: ignore[arg-type]


def contents(out: Path) -> dict[str, bytes]:
    """What a run is asked for: its images, their sidecars, the tables and the model."""
    files = [path for path in out.rglob("*") if path.is_file() and "work" not in path.parts]
    told_apart = ("run.json", "cgckit.log", "written.jsonl")
    found = {str(path.relative_to(out)): path.read_bytes() for path in sorted(files) if path.name not in told_apart}
    description = json.loads(found["dataset_description.json"])
    assert (out / description.pop("DatasetLinks")["scans"]).is_dir()  # which says where the scans are, seen from here
    return found | {"dataset_description.json": json.dumps(description).encode()}


def turn_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-(len(content) // 3)] ^= 4
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "removed": Path.unlink,
    "a bit": turn_a_bit,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.fixture(scope="module")
def whole(write_subjects: WriteCohort, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Scans and the folder of a run on them, to be looked at only."""
    folder = tmp_path_factory.mktemp("whole")
    scans = write_subjects(folder / "scans", 2)
    return scans, run(scans, folder / "out").out


@pytest.fixture
def copied(whole: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    return whole[0], shutil.copytree(whole[1], tmp_path / "out")


@pytest.mark.parametrize("damage", DAMAGE)
def test_whatever_a_complete_run_wrote_is_made_again_by_its_command(
    whole: tuple[Path, Path], copied: tuple[Path, Path], damage: str
) -> None:
    scans, out = copied
    expected = contents(whole[1])
    assert len(expected) == 2 * 8 + 7
    for name in expected:
        DAMAGE[damage](out / name)
    run(scans, out)
    assert contents(out) == expected


@pytest.mark.parametrize("name", ["brain_mask.nii.gz", "label-L_probseg.json", "cgc_mask.nii.gz", "model.safetensors"])
def test_a_damaged_file_is_noticed_among_whole_ones_and_said(
    whole: tuple[Path, Path], copied: tuple[Path, Path], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    scans, out = copied
    path = next(path for path in sorted(out.rglob(f"*{name}")) if "seg-" not in path.name)
    turn_a_bit(path)
    run(scans, out)
    assert contents(out) == contents(whole[1])
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any("again" in words and (path.name in words or "model" in words) for words in said), said


@pytest.mark.parametrize("damage", DAMAGE)
def test_work_files_that_were_damaged_are_made_again(
    whole: tuple[Path, Path], copied: tuple[Path, Path], damage: str
) -> None:
    scans, out = copied
    shutil.rmtree(out / "work" / "run")
    shutil.rmtree(out / "model")
    for path in (out / "work" / "priors").glob("*.safetensors"):
        DAMAGE[damage](path)
    prior = Learned()
    run(scans, out, prior=prior)
    assert (prior.fits, prior.calls) == (1, 2)
    assert contents(out) == contents(whole[1])


@pytest.mark.parametrize("damage", DAMAGE)
def test_an_interrupted_run_whose_files_were_damaged_ends_with_the_same_masks(
    whole: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    scans, out = whole[0], tmp_path / "out"
    original, calls = CropSampler.__call__, 0

    def stop(self: CropSampler, index: int) -> object:
        nonlocal calls
        calls += 1
        if calls == 28:
            raise KeyboardInterrupt
        return original(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(CropSampler, "__call__", stop)
        with pytest.raises(KeyboardInterrupt):
            run(scans, out)
    scratch = out / "work" / "run"
    examples = sorted((scratch / "examples").iterdir())
    markers = sorted((scratch / "priors").iterdir())
    assert (scratch / "checkpoint.safetensors").exists()
    for path in (scratch / "checkpoint.safetensors", *examples, markers[0]):
        DAMAGE[damage](path)
    run(scans, out)
    assert contents(out) == contents(whole[1])


def test_an_example_that_is_lost_in_mid_training_ends_it_in_one_line(
    whole: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans, out = whole[0], tmp_path / "out"
    original = CropSampler.__call__

    def lose(self: CropSampler, index: int) -> object:
        if index == 3:
            for path in self.paths:
                path.write_bytes(b"")
        return original(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(CropSampler, "__call__", lose)
        with pytest.raises(BadInputError, match=r"case.\.safetensors: cannot be read"):
            run(scans, out)
    run(scans, out)
    assert contents(out) == contents(whole[1])


def test_weights_that_are_not_finite_make_no_map(
    whole: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = cgckit.load_model(whole[1])
    with torch.no_grad():
        next(model.network.parameters()).fill_(torch.nan)
    with pytest.raises(CgckitError, match="finite"):
        cgckit.predict(whole[0], model, tmp_path / "a", device="cpu")
    assert not list((tmp_path / "a").rglob("*.nii.gz"))
    model.save(tmp_path / "model", {})
    with pytest.raises(BadInputError, match="finite"):
        cgckit.predict(whole[0], tmp_path / "model", tmp_path / "b", device="cpu")


def test_no_map_is_written_that_is_not_finite(whole: tuple[Path, Path], tmp_path: Path) -> None:
    scan = whole[0] / "case1" / "case1_flair.nii.gz"
    image = torch.zeros(40, 44, 36)
    image[3, 4, 5] = torch.nan
    with pytest.raises(CgckitError, match="not finite"):
        Derivatives(tmp_path / "out").write_probability("case1", image.numpy(), scan)
    assert not (tmp_path / "out").exists()


def test_overwrite_always_starts_over(whole: tuple[Path, Path], copied: tuple[Path, Path]) -> None:
    scans, out = copied
    for path in (out / "run.json", out / "model" / "model.json"):
        path.write_bytes(b"\0")
    prior = Learned()
    run(scans, out, prior=prior, overwrite=True)
    assert (prior.fits, prior.calls) == (1, 2)
    assert contents(out) == contents(whole[1])


def test_a_bit_of_the_ledger_costs_no_more_than_a_map(whole: tuple[Path, Path], copied: tuple[Path, Path]) -> None:
    scans, out = copied
    ledger = out / "written.jsonl"
    intact = ledger.read_bytes()
    header, middle = intact.index(b"\n"), intact.index(b"probseg")
    for at in (header // 2, middle, len(intact) - 1):
        ledger.write_bytes(intact[:at] + bytes([intact[at] ^ 1]) + intact[at + 1 :])
        run(scans, out)
        assert contents(out) == contents(whole[1]), at


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_record_costs_nothing_but_a_warning(
    copied: tuple[Path, Path], damage: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scans, out = copied
    monkeypatch.setattr("cgckit.images.preparation.Preparation.case", None)
    DAMAGE[damage](out / "run.json")
    run(scans, out)
    record = read_json(out / "run.json")
    assert record["status"] == "complete"
    assert record["training"]["steps"] == QUICK["steps"]
    said = [line for line in caplog.messages if "run.json is damaged" in line]
    assert len(said) == (damage != "removed")
