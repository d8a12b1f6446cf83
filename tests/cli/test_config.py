"""`cgckit refine --config`: options in a file, and the file in a run's folder with which the run is repeated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cgckit.cli.config import tomllib, written

WriteCohort = Callable[..., Path]
SETTINGS = ["spacing=4", "crop=16x16x16", "widths=4x4x4x4", "projection=4", "batch=1", "steps=2"]


def masks(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.nii.gz"))}


@pytest.fixture
def called(cgckit, monkeypatch) -> Callable[..., dict[str, object]]:
    """What `cgckit.refine` is called with by a command line."""

    class Caught(Exception):  # noqa: N818 - it is none
        pass

    def call(*arguments: object) -> dict[str, object]:
        found: dict[str, object] = {}

        def refine(**asked: object) -> None:
            found.update(asked)
            raise Caught

        monkeypatch.setattr("cgckit.refine", refine)
        ending = cgckit("refine", *arguments)
        assert "Caught" in ending.err, ending.err
        return found

    return call


@pytest.fixture
def file(tmp_path: Path, write_cohort: WriteCohort, monkeypatch) -> Path:
    """A file of options, in a folder that is not the working directory, to which its paths are relative."""
    write_cohort(1)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "configs" / "run.toml"
    path.parent.mkdir()
    path.write_text(
        'inputs = ["scans"]\nout = "out"\nprior = "gmm+mask:rough/{subject}.nii.gz"\nseed = 3\nown-grids = true\n'
        'set = ["steps=7", "mirror=no"]\nstrict = false\nmodalities = "t1,flair"\n'
    )
    return path


def test_options_in_the_file_are_read_as_if_they_were_given(called, file: Path) -> None:
    words = ["scans", "--out", "out", "--prior", "gmm+mask:rough/{subject}.nii.gz", "--seed", 3, "--own-grids"]
    words += ["--set", "steps=7", "--set", "mirror=no", "--modalities", "t1,flair"]
    given, read = called(*words), called("--config", file)
    assert tomllib.loads(str(given.pop("config")))["seed"] == 3
    assert tomllib.loads(str(called("scans", "--out", "out")["config"]))["seed"] == 0, "a default may become another"
    read.pop("config")
    assert read.pop("brain") == given.pop("brain")
    assert read.pop("registration") == given.pop("registration")
    assert read == given
    assert read["seed"] == 3


def test_the_command_line_counts_instead(called, file: Path, write_cohort: WriteCohort) -> None:
    write_cohort(1, name="others")
    found = called("others", "--config", file, "--seed", "0", "--set", "steps=9", "--out", "new", "--strict")
    assert found["inputs"] == ["others"]
    assert found["out"] == Path("new")
    assert found["seed"] == 0
    assert found["settings"] == {"steps": "9"}, "a list is taken as a whole"
    assert found["strict"]
    assert found["modalities"] == ["t1", "flair"]


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("priro = 'gmm'", 2, "there is no option 'priro': did you mean prior?"),
        ("colour = 'red'", 2, "there is no option 'colour': there are inputs, out, prior"),
        ("config = 'other.toml'", 2, "there is no option 'config'"),
        ("strict = 'yes'", 2, 'strict = "yes": true or false is wanted'),
        ("seed = true", 2, "seed = true: a text or a number is wanted"),
        ("seed = [1, 2]", 2, "seed = [1, 2]: a text or a number is wanted"),
        ("set = 'steps=3'", 2, 'set = "steps=3": a list of texts is wanted'),
        ("set = [['a']]", 2, 'set = [["a"]]: a list of texts is wanted'),
        ("set = {steps = 3}", 2, "a list of texts is wanted"),
        ("seed = 'three'", 2, "invalid value for '--seed'"),
        ("seed = -1", 2, "invalid value for '--seed'"),
        ("seed = ", 3, "is no TOML"),
        (None, 3, "no such file"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(cgckit, tmp_path: Path, text: str | None, code: int, said: str) -> None:
    file = tmp_path / "run.toml"
    if text is not None:
        file.write_text(text + "\n")
    ending = cgckit("refine", tmp_path, "--out", tmp_path / "out", "--config", file)
    assert (ending.code, len(ending.err.splitlines())) == (code, 1), ending.err
    assert said in ending.err
    assert not (tmp_path / "out").exists()


def test_a_run_is_repeated_from_its_own_folder(cgckit, write_cohort: WriteCohort, tmp_path: Path, monkeypatch) -> None:
    write_cohort(2)
    monkeypatch.chdir(tmp_path)
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    prior = ["--prior", "mask:scans-references/{subject}_seg.nii.gz"]
    command = ["refine", "scans", *prior, "--out", "out", "--quiet", "--seed", "5", "--device", "cpu", *settings]
    assert cgckit(*command, "--stage", "prior").code == 0
    begun = Path("out/config.toml").read_text()
    assert cgckit(*command).code == 0
    assert cgckit("refine", "--config", "out/config.toml", "--out", "again", "--quiet").code == 0
    assert masks(Path("again")) == masks(Path("out"))
    assert len(masks(Path("out"))) > 3
    first, second = (Path(name, "config.toml").read_text() for name in ("out", "again"))
    assert first == begun, "it is there from the beginning, and the same for every stage"
    assert first == second
    assert set(tomllib.loads(first)) & {"seed", "out", "quiet", "stage"} == {"seed"}
    monkeypatch.setattr("cgckit.cli.commands.refine.config_text", lambda context: None)
    assert cgckit(*command, "--set", "mirror=no").code == 0
    assert not Path("out/config.toml").exists(), "a file that is no longer true does not stay"


def test_a_config_of_somebody_else_is_not_replaced(cgckit, write_cohort: WriteCohort, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "config.toml").write_text("seed = 1\n")
    ending = cgckit("refine", write_cohort(1), "--out", out, "--quiet")
    assert ending.code == 2
    assert "config.toml: is there and was not written by cgckit" in ending.err
    assert [path.name for path in out.iterdir()] == ["config.toml"]


@pytest.mark.parametrize(
    "value", ["plain", 'a "quoted" \\ word', "tab\tand\nline", "\x7f\x01é𝄞\udcff", ["a", "b"], 3, True, 0.5]
)
def test_what_is_written_is_read_as_it_was(value: object) -> None:
    assert tomllib.loads(f"a = {written(value)}") == {"a": value}
