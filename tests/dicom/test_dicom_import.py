"""A study goes in, a cohort comes out: the right images, the right side up, and nothing twice."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("pydicom", reason="pydicom is not in this environment")
pytest.importorskip("dcm2niix", reason="dcm2niix is not in this environment")

import dicom_study as study

import cgckit
from cgckit import BadInputError, Prior, UsageError
from cgckit.dicom import Imported, import_dicom
from cgckit.images.cohort import Cohort

NAMES = {"FLAIR", "T1w", "ce-gadolinium_T1w", "T2w", "adc"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("export")
    study.write_study(root)
    (root / "notes.txt").write_text("no DICOM")
    return root


@pytest.fixture(scope="module")
def imported(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Imported:
    return import_dicom(folder, tmp_path_factory.mktemp("cohort") / "scans")


def rows_of(out: Path) -> list[dict[str, str]]:
    header, *lines = (out / "series.tsv").read_text().splitlines()
    return [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]


def suffix(path: str) -> str:
    return path.split("/")[-1].split("_", 2)[2].removesuffix(".nii.gz")


def test_every_sequence_of_every_person_and_study_becomes_a_file(imported: Imported) -> None:
    found: dict[tuple[str, ...], set[str]] = {}
    for name in imported.files:
        found.setdefault(tuple(name.split("/")[:2]), set()).add(suffix(name))
    assert sorted(map(sorted, found.values())) == sorted(map(sorted, [NAMES, NAMES, {"ct"}]))
    assert len({person for person, _ in found}) == 2
    (twice,) = {person for person, session in found if session == "ses-2"}
    assert found[twice, "ses-1"] == NAMES, "the CT came later"


def test_every_image_is_the_right_side_up(imported: Imported) -> None:
    for name in imported.files:
        offset = 1000 if name.endswith("_ct.nii.gz") else 0
        assert study.marks(imported.out / name) == [value - offset for value in study.MARKS], name


def test_voxels_that_need_no_resampling_are_those_of_the_scanner(imported: Imported) -> None:
    for name in imported.files:
        if suffix(name) == "ct":
            continue
        image = nib.load(imported.out / name)
        array = np.asarray(image.dataobj)
        assert array.dtype == np.int16
        np.testing.assert_array_equal(array, study.head(array.shape, image.affine), err_msg=name)


def test_the_table_says_of_every_series_what_it_shows_and_why(imported: Imported) -> None:
    rows = rows_of(imported.out)
    assert len(rows) == 13
    shown = sorted(row["shows"] for row in rows)
    assert shown == sorted(["flair", "t1", "t1ce", "t2", "adc", "localizer"] * 2 + ["ct"])
    for row in rows:
        assert (row["taken"] == "yes") == (row["shows"] != "localizer") == (row["file"] != "n/a")
        assert row["why"]
    planes = {row["shows"]: row["plane"] for row in rows}
    assert (planes["flair"], planes["t1"], planes["t2"]) == ("axial", "sagittal", "coronal")
    assert [row["tilt_deg"] for row in rows if row["shows"] == "ct"] == ["15"]


def test_the_cohort_is_found_as_it_is(imported: Imported) -> None:
    cohort = Cohort.find(imported.out, allow_missing=True)
    assert set(cohort.modalities) == {"flair", "t1", "t1ce", "t2", "adc", "ct"}
    assert sum(len(subject.files) for subject in cohort) == 11
    assert json.loads((imported.out / "dataset_description.json").read_text())["DatasetType"] == "raw"
    people = (imported.out / "participants.tsv").read_text().splitlines()
    assert people == ["participant_id", "sub-001", "sub-002"]


VALIDATOR = Path(sys.executable).with_name("bids-validator-deno")


@pytest.mark.skipif(not VALIDATOR.exists(), reason="bids-validator-deno is not in this environment")
def test_the_cohort_is_valid_bids(imported: Imported) -> None:
    done = subprocess.run([VALIDATOR, imported.out], capture_output=True, text=True, check=False)
    assert "[ERROR]" not in done.stdout + done.stderr
    assert done.returncode == 0


@dataclass
class BrightBall(Prior):
    """The ball: brighter than the head, and darker than the marks."""

    def predict(self, case: cgckit.Case):  # type: ignore[no-untyped-def]
        from scipy import ndimage
        from torch import from_numpy

        bright = ((case.image[0] > 3) & case.brain).numpy()
        labels, _ = ndimage.label(bright)
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        return from_numpy((labels == sizes.argmax()).astype(np.float32))


def test_masks_of_a_run_lie_on_the_lesion(tmp_path: Path) -> None:
    shape, affine = study.box((3, 3, 4), study.CORONAL)
    noise = np.random.default_rng(0).normal(0, 3, shape)
    clean = study.head(shape, affine)
    array = np.where(clean > 0, clean + noise, 0).clip(0)
    study.write_series(tmp_path / "dicom", study.Person(), array, affine, study.FLAIR)
    done = import_dicom(tmp_path / "dicom", tmp_path / "scans")
    settings = {"spacing": 4.0, "crop": (16, 16, 16), "widths": (4, 4, 4, 4), "projection": 4, "batch": 1}
    settings |= {"steps": 1, "mirror": False, "prior_weight": 1e3, "prior_reach": 1.0}
    run = cgckit.refine(done.out, BrightBall(), tmp_path / "out", settings=settings, device="cpu")
    assert len(run) == 1
    for subject in run:
        mask = nib.load(subject.mask_path)
        found = np.asarray(mask.dataobj) > 0
        points = np.argwhere(found) @ mask.affine[:3, :3].T + mask.affine[:3, 3]
        assert np.linalg.norm(points.mean(axis=0) - (-30, 35, 10)) < 2  # mm, in RAS: left, front, top
        truth = study.head(found.shape, mask.affine) == 300
        assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.8


def test_an_import_that_is_given_again_does_nothing_twice(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cgckit.dicom import importing

    converted = []

    def count(stack):  # type: ignore[no-untyped-def]
        converted.append(stack)
        if len(converted) == 4:
            raise KeyboardInterrupt
        return convert(stack)

    convert = importing.convert
    monkeypatch.setattr(importing, "convert", count)
    with pytest.raises(KeyboardInterrupt):
        import_dicom(folder, tmp_path / "scans")
    import_dicom(folder, tmp_path / "scans")
    assert len(converted) == 4 + 8
    before = {path: path.read_bytes() for path in (tmp_path / "scans").rglob("*.nii.gz")}
    assert len(before) == 11
    done = import_dicom(folder, tmp_path / "scans")
    assert len(converted) == 12
    assert {path: path.read_bytes() for path in done.out.rglob("*.nii.gz")} == before
    assert any("tilt" in note for item in done.files.values() for note in item.notes), "notes are kept"
    next(iter(before)).write_bytes(b"damaged")
    import_dicom(folder, tmp_path / "scans")
    assert len(converted) == 13
    assert {path: path.read_bytes() for path in done.out.rglob("*.nii.gz")} == before


def test_labels_do_not_depend_on_names_of_folders_nor_of_files(
    imported: Imported, folder: Path, tmp_path: Path
) -> None:
    for number, path in enumerate(sorted((path for path in folder.rglob("IM*")), reverse=True)):
        shutil.copyfile(path, tmp_path / f"{number:05d}.ima")
    other = import_dicom(tmp_path, tmp_path.with_name("other"))
    assert rows_of(other.out) == rows_of(imported.out)


def test_patients_can_be_added_where_a_mapping_is_kept(tmp_path: Path) -> None:
    shape, affine = study.box((3, 3, 4))
    array = study.head(shape, affine)
    people = [study.Person(f"P{number}", f"N{number}") for number in range(6)]
    mapping = tmp_path / "who.tsv"
    labels = []
    for number, person in enumerate(people):
        study.write_series(tmp_path / "dicom" / str(number), person, array, affine, study.FLAIR)
        import_dicom(tmp_path / "dicom", tmp_path / "scans", mapping=mapping)
        rows = [line.split("\t") for line in mapping.read_text().splitlines()[1:]]
        labels.append({row[2]: row[0] for row in rows})
        assert len(list((tmp_path / "scans").rglob("*.nii.gz"))) == number + 1
    assert labels[-1] == {f"P{number}": f"sub-{number + 1:03d}" for number in range(6)}
    assert mapping.stat().st_mode & 0o077 == 0
    study.write_series(tmp_path / "dicom" / "again", people[2].again("20250101"), array, affine, study.FLAIR)
    done = import_dicom(tmp_path / "dicom", tmp_path / "scans", mapping=mapping)
    assert "sub-003/ses-2/anat/sub-003_ses-2_FLAIR.nii.gz" in done.files
    assert len(list((tmp_path / "scans").rglob("*.nii.gz"))) == 7, "those without a session are gone"


def test_an_import_of_other_files_is_not_mixed_in(folder: Path, imported: Imported, tmp_path: Path) -> None:
    shape, affine = study.box((3, 3, 4))
    study.write_series(tmp_path / "dicom", study.Person("P9"), study.head(shape, affine), affine, study.FLAIR)
    out = tmp_path / "scans"
    shutil.copytree(imported.out, out)
    with pytest.raises(UsageError, match="other files"):
        import_dicom(tmp_path / "dicom", out)
    done = import_dicom(tmp_path / "dicom", out, overwrite=True)
    assert [path.name for path in done.out.rglob("*.nii.gz")] == ["sub-001_FLAIR.nii.gz"]


def test_what_is_whole_and_not_wanted_is_no_loss(tmp_path: Path) -> None:
    person = study.Person()
    shape, affine = study.box((4, 4, 5))
    study.write_series(tmp_path / "a" / "1", person, study.head(shape, affine), affine, study.T1)
    part = study.head(shape, affine)[:, :, :9]
    study.write_series(tmp_path / "a" / "2", person, part, affine, study.T2)
    done = import_dicom(tmp_path / "a", tmp_path / "out")
    assert done.lost == ()
    assert "covers 45 mm of the head alone" in (tmp_path / "out" / "series.tsv").read_text()


@pytest.mark.parametrize("out", ["", "inside", ".."])
def test_outputs_do_not_lie_with_the_input(tmp_path: Path, out: str) -> None:
    (tmp_path / "dicom").mkdir()
    with pytest.raises(UsageError, match="lies with"):
        import_dicom(tmp_path / "dicom", tmp_path / "dicom" / out)


def test_a_mapping_does_not_lie_with_the_scans(tmp_path: Path) -> None:
    (tmp_path / "dicom").mkdir()
    with pytest.raises(UsageError, match="outside"):
        import_dicom(tmp_path / "dicom", tmp_path / "out", mapping=tmp_path / "out" / "who.tsv")


def test_a_folder_without_dicom_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "dicom").mkdir()
    (tmp_path / "dicom" / "a.txt").write_text("a")
    with pytest.raises(BadInputError, match="none of its 1 files is DICOM"):
        import_dicom(tmp_path / "dicom", tmp_path / "out")
    (tmp_path / "dicom" / "a.txt").unlink()
    with pytest.raises(BadInputError, match="there is no file in it"):
        import_dicom(tmp_path / "dicom", tmp_path / "out")
    with pytest.raises(BadInputError, match="no such file or folder"):
        import_dicom(tmp_path / "gone", tmp_path / "out")


def test_one_file_may_be_given_and_a_doubt_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shape, affine = study.box((4, 4, 5))
    person = study.Person("ANON", "", "")
    paths = study.write_series(tmp_path / "a", person, study.head(shape, affine), affine, study.T1)
    with pytest.raises(BadInputError, match="none of 1 series"):
        import_dicom(paths[0], tmp_path / "out")
    assert "1 studies name no patient" in caplog.text


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a\tb\n1\t2\n"])
def test_a_table_of_series_that_is_none_is_refused(folder: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "table.tsv").write_bytes(content)
    with pytest.raises(BadInputError, match=r"table\.tsv"):
        import_dicom(folder, tmp_path / "out", series=tmp_path / "table.tsv")


def corrected(out: Path, target: Path, **changes: tuple[str, str]) -> Path:
    """A copy of the table of series in which rows that show something show, and are taken, otherwise."""
    header, *lines = (out / "series.tsv").read_text().splitlines()
    columns = header.split("\t")
    rows = [dict(zip(columns, line.split("\t"), strict=True)) for line in lines]
    for row in rows:
        row["shows"], row["taken"] = changes.get(row["shows"], (row["shows"], row["taken"]))
    target.write_text("\n".join([header, *("\t".join(row.values()) for row in rows)]) + "\n")
    return target


def test_a_corrected_table_decides(folder: Path, imported: Imported, tmp_path: Path) -> None:
    out = tmp_path / "scans"
    shutil.copytree(imported.out, out)
    table = corrected(out, tmp_path / "table.tsv", flair=("flair", "no"), t2=("pd", "yes"), ct=("ct", "no"))
    done = import_dicom(folder, out, series=table)
    assert {suffix(name) for name in done.files} == {"PDw", "T1w", "ce-gadolinium_T1w", "adc"}
    assert {path.name.split("_", 2)[2] for path in out.rglob("*.nii.gz")} == {
        f"{suffix(name)}.nii.gz" for name in done.files
    }
    assert done.lost == ()
    why = {row["shows"]: row["why"] for row in rows_of(out)}
    assert "said by --series" in why["pd"]
    assert "not taken by --series" in why["flair"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"localizer": ("localizer", "yes")}, "shows is none of"),
        ({"t2": ("t1", "yes")}, "a second t1"),
        ({"t2": ("t2", "perhaps")}, "write yes or no"),
    ],
)
def test_a_table_that_cannot_be_followed_is_refused(
    folder: Path, imported: Imported, tmp_path: Path, changes: dict[str, tuple[str, str]], message: str
) -> None:
    table = corrected(imported.out, tmp_path / "table.tsv", **changes)
    with pytest.raises(BadInputError, match=message):
        import_dicom(folder, tmp_path / "out", series=table)


def test_a_table_of_another_import_is_refused(folder: Path, imported: Imported, tmp_path: Path) -> None:
    table = corrected(imported.out, tmp_path / "table.tsv")
    table.write_text(table.read_text().replace("sub-002", "sub-003"))
    with pytest.raises(BadInputError, match="there is no participant_id sub-003"):
        import_dicom(folder, tmp_path / "out", series=table)
