"""What a user reads first: help, version, and the commands that only tell."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

import pytest

import cgckit as package
from cgckit.cgc.settings import PRESETS, Settings

COMMANDS = ["refine", "prior", "predict", "report", "evaluate", "crossval", "ablate", "phantom", "pretrain", "table1"]
COMMANDS += ["prepare", "bids", "dicom", "export", "lesions", "presets", "info", "plugins", "priors", "clean"]
HEAVY = ["torch", "numpy", "monai", "nibabel", "scipy", "sklearn", "nilearn", "matplotlib"]


def test_the_help_lists_every_command(cgckit):
    ending = cgckit("--help")
    assert ending.code == 0
    assert sorted(re.findall(r"^│ ([a-z0-9]+)  ", ending.out, re.MULTILINE)) == sorted(COMMANDS)
    assert "cgckit refine" in ending.out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_has_an_example_of_it(cgckit, command):
    ending = cgckit(command, "--help")
    assert ending.code == 0
    _, found, examples = ending.out.partition("Example")
    assert found
    assert f"cgckit {command}" in examples


@pytest.mark.parametrize("command", ["refine", "prior", "predict", "crossval", "ablate", "table1"])
def test_the_example_of_a_command_uses_options_that_it_has(cgckit, command):
    described, _, options = cgckit(command, "--help").out.partition("Options")
    used = set(re.findall(r"--[a-z-]+", described.partition("Example")[2]))
    assert used <= set(re.findall(r"--[a-z-]+", options))


@pytest.mark.parametrize("arguments", [["--help"], ["refine", "--help"], ["priors", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments):
    """So that it comes at once; a process of its own has nothing imported yet."""
    program = (
        "import sys\n"
        "from cgckit.cli.main import main\n"
        "try:\n    main()\n"
        f"finally:\n    print('imported:', *sorted(set({HEAVY}) & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert done.stderr.strip() == "imported:"


def test_the_version_is_the_packages(cgckit):
    ending = cgckit("--version")
    assert (ending.code, ending.out) == (0, f"cgckit {package.__version__}\n")


def test_no_command_shows_the_help(cgckit):
    ending = cgckit()
    assert ending.code != 0
    assert "refine" in ending.out + ending.err


@pytest.mark.parametrize("arguments", [["refne"], ["refine"], ["refine", "scans", "--colour", "red", "--out", "out"]])
def test_an_unknown_or_missing_word_is_a_usage_error(cgckit, arguments):
    ending = cgckit(*arguments)
    assert ending.code == 2
    assert ending.out == ""
    assert "Traceback" not in ending.err
    assert any(word in ending.err for word in ("refne", "INPUT", "--colour"))


def test_presets_prints_every_setting_of_each_preset(cgckit):
    ending = cgckit("presets")
    assert ending.code == 0
    rows = {cells[0]: cells[1:] for line in ending.out.splitlines() if (cells := _cells(line))}
    for field in dataclasses.fields(Settings):
        assert field.name in rows
    header = rows["setting"]
    for name, settings in PRESETS.items():
        assert rows["steps"][header.index(name)] == str(settings.steps)
        assert rows["crop"][header.index(name)] == "x".join(map(str, settings.crop))


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]


def test_info_says_what_is_installed(cgckit):
    import torch

    ending = cgckit("info")
    assert ending.code == 0
    rows = dict(cells[:2] for line in ending.out.splitlines() if (cells := _cells(line)))
    assert rows["cgckit"] == package.__version__
    assert rows["torch"] == torch.__version__
    assert rows["threads"] == str(torch.get_num_threads())
    assert any(name.startswith("extension") for name in rows)


def test_the_priors_commands_work(cgckit):
    listed, shown, checked = cgckit("priors", "list"), cgckit("priors", "show", "gmm"), cgckit("priors", "check", "gmm")
    assert [ending.code for ending in (listed, shown, checked)] == [0, 0, 0]
    assert all(name in listed.out for name in ("gmm", "mumford-shah", "mask"))
    assert "seed" in shown.out
    assert "determinism" in checked.out
    assert "BROKEN" not in checked.out


def test_an_interrupted_command_says_that_it_can_go_on(cgckit, monkeypatch, tmp_path):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("cgckit.refine", interrupt)
    ending = cgckit("refine", tmp_path, "--out", tmp_path / "out")
    assert ending.code == 130
    assert ending.err == "cgckit: interrupted; the same command goes on from here\n"
