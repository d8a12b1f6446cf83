"""`cgckit plugins list|show|check`: every group by one command, and each mistake in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

PLUGINS = '''
from dataclasses import dataclass
from typing import Annotated
import numpy as np
import cgckit
from cgckit.options import at_least

@dataclass
class Level(cgckit.BrainExtractor):
    """Everything above a level.

    Attributes:
        level: where the brain begins.
    """

    level: Annotated[float, at_least(0)] = 50.0

    def extract(self, volumes):
        return next(iter(volumes.values())).array > self.level

@dataclass
class Everything(cgckit.BrainExtractor):
    def extract(self, volumes):
        return next(iter(volumes.values())).array > -1e9

@dataclass
class Still(cgckit.Registration):
    """Leaves every image where it is."""

    def align(self, fixed, moving):
        return np.eye(4)

@dataclass
class Leaves(cgckit.BrainExtractor):
    def __post_init__(self):
        raise SystemExit(0)

    def extract(self, volumes):
        return None

class Nothing:
    pass
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(PLUGINS)
    return path


def test_list_shows_every_group(cgckit):
    ending = cgckit("plugins", "list")
    assert ending.code == 0
    for name in ("gmm", "coarse", "rigid", "dice"):
        assert f" {name} " in ending.out
    assert "mask:PATTERN" in ending.out


@pytest.mark.parametrize(
    ("group", "there", "absent"),
    [("brains", "coarse", "gmm"), ("metrics", "dice", "coarse"), ("registrations", "rigid", "dice")],
)
def test_list_shows_one_group_alone(cgckit, group, there, absent):
    ending = cgckit("plugins", "list", "--group", group)
    assert f" {there} " in ending.out
    assert f" {absent} " not in ending.out


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("coarse", "empty background"),
        ("gmm", "max_components"),
        ("dice", "|P"),
        ("rigid", "--registration-option"),
    ],
)
def test_show_finds_the_group_by_the_name(cgckit, name, words):
    ending = cgckit("plugins", "show", name)
    assert ending.code == 0
    assert words in ending.out


def test_show_prints_the_options_of_a_class_in_a_file(cgckit, file):
    ending = cgckit("plugins", "show", f"{file}:Level")
    (row,) = [line for line in ending.out.splitlines() if "where the brain begins." in line]
    assert "number of 0 or more" in row
    assert "--brain-option" in ending.out


def test_check_keeps_to_the_contract_of_the_group(cgckit, file):
    ending = cgckit("plugins", "check", f"{file}:Level", "--option", "level=60")
    assert ending.code == 0, ending.err
    assert "BROKEN" not in ending.out
    broken = cgckit("plugins", "check", f"{file}:Everything")
    assert broken.code == 5
    assert "breaks the contract: brain" in broken.err


def test_check_knows_what_a_registration_has_to_do(cgckit, file):
    ending = cgckit("plugins", "check", f"{file}:Still")
    assert ending.code == 5
    assert "registration" in ending.err
    assert ending.err.endswith("breaks the contract: direction\n")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["show", "gnn"], 2, ["'gnn'", "gmm", "coarse", "dice"]),
        (["list", "--group", "noses"], 2, ["'noses'", "priors, brains, registrations, metrics"]),
        (["show", "coarse", "--group", "priors"], 2, ["no prior 'coarse'"]),
        (["show", "{file}"], 2, ["say which class"]),
        (["show", "{file}:None"], 2, ["no None in the file"]),
        (["show", "{file}:Nothing"], 5, ["subclass of cgckit.Prior", "BrainExtractor", "Registration", "Metric"]),
        (["show", "{file}.gone.py:Level"], 2, ["there is no file"]),
        (["check", "{file}:Leaves"], 5, ["SystemExit"]),
        (["check", "{file}:Level", "--option", "level=-1"], 2, ["level: must be a number of 0 or more"]),
        (["check", "{file}:Level", "--option", "size=1"], 2, ["'size'", "level"]),
        (["check", "{file}:Level", "--option", "level"], 2, ["KEY=VALUE"]),
    ],
)
def test_a_mistake_is_one_line(cgckit, file, arguments, code, words):
    ending = cgckit("plugins", *(text.format(file=file) for text in arguments))
    assert ending.code == code, ending.err
    assert len(ending.err.splitlines()) == 1
    for word in words:
        assert word in ending.err


def test_new_writes_a_package_and_says_where(cgckit, tmp_path):
    ending = cgckit("plugins", "new", "left-right", "--kind", "brain", "--out", tmp_path / "package")
    assert ending.code == 0, ending.err
    assert ending.out == f"{tmp_path / 'package'}\n"
    assert (tmp_path / "package" / "cgckit_left_right" / "brain.py").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Left Right"], ["'Left Right'", "as in left-right"]),
        (["gmm"], ["gmm is the name of cgckit", "choose another"]),
        (["cgckit-gmm"], ["gmm is the name of cgckit", "choose another"]),
        (["left-right", "--kind", "nose"], ["'nose'", "prior, brain, metric"]),
    ],
)
def test_new_refuses_what_cannot_be(cgckit, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    ending = cgckit("plugins", "new", *arguments)
    assert ending.code == 2
    assert len(ending.err.splitlines()) == 1
    assert all(word in ending.err for word in words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [[], ["list"], ["show"], ["check"], ["new"]])
def test_every_help_has_an_example(cgckit, command):
    ending = cgckit("plugins", *command, "--help")
    assert "Example" in ending.out
    assert "cgckit plugins" in ending.out
