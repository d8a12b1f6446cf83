"""What every command has in common: its loudness, its mistakes in one line, and completion by the shell."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import typer

from cgckit.cli.main import app


def commands() -> list[list[str]]:
    """The words of every command, those of groups included."""
    found = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return [
        [name, *inner]
        for name, command in found.items()
        for inner in [[word] for word in getattr(command, "commands", ())] or [[]]
    ]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_can_be_told_to_say_more(cgckit, words: list[str]) -> None:
    assert "--verbose" in cgckit(*words, "--help").out


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("option", ["-v", "--verbose"])
def test_verbose_adds_a_traceback_to_the_line_and_keeps_the_code(cgckit, tmp_path, before, option) -> None:
    plain = cgckit("report", tmp_path)
    assert plain.code == 3
    said = cgckit(option, "report", tmp_path) if before else cgckit("report", tmp_path, option)
    assert said.code == plain.code
    assert said.err.startswith("Traceback")
    assert said.err.endswith(plain.err)
    assert cgckit("report", tmp_path) == plain, "the next command in this process says no more than before"


@pytest.mark.parametrize("words", [["-q"], ["--quiet"], []])
def test_quiet_before_a_command_is_quiet_after_it(cgckit, write_cohort, tmp_path, words: list[str]) -> None:
    ending = cgckit(*words, "prior", write_cohort(1), "--prior", "aucseg", "--out", tmp_path / "out")
    assert ending.code == 0
    assert (ending.err == "") == bool(words), "bars, too, are on stderr"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["refne"], "no such command 'refne'. Did you mean 'refine'? see cgckit --help"),
        (["plugins", "lst"], "no such command 'lst'. Did you mean 'list'? see cgckit plugins --help"),
        (["refine", "scans"], "missing option '--out'; see cgckit refine --help"),
        (["refine", "--out", "out"], "missing argument 'INPUT'; see cgckit refine --help"),
        (["refine", "scans", "--out", "out", "--seed", "-1"], "invalid value for '--seed'"),
        (["phantom", "out", "--modality", "pet"], "'pet' is not one of 'mri', 'ct', 'raw'; see cgckit phantom --help"),
        (["refine", "scans", "--out"], "'--out' requires an argument"),
        (["refine", "scans", "--out", "out", "--qiet"], "--qiet"),
    ],
)
@pytest.mark.parametrize("loud", [[], ["-v"]])
def test_a_command_line_that_cannot_be_read_is_one_line(cgckit, arguments, said: str, loud: list[str]) -> None:
    ending = cgckit(*loud, *arguments)
    assert (ending.code, ending.out) == (2, "")
    assert ending.err.startswith("cgckit: ")
    assert len(ending.err.splitlines()) == 1, ending.err
    assert said.lower() in ending.err.lower()


@pytest.mark.parametrize("arguments", [[], ["plugins"]])
def test_a_name_alone_shows_the_help_and_no_error(cgckit, arguments: list[str]) -> None:
    ending = cgckit(*arguments)
    assert (ending.code, ending.err) == (2, "")
    assert "Usage: cgckit" in ending.out


def alone(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, which must import nothing that takes long."""
    program = (
        "import sys\n"
        "from cgckit.cli.main import main\n"
        "try:\n    main()\n"
        "finally:\n    print(*{'torch', 'numpy', 'nibabel'} & set(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.splitlines()[-1] == "", "what was imported stands there"
    return done


@pytest.mark.parametrize(
    "command",
    ["refine {} --out {}", "prior {} --out {}", "prepare {} --out {}", "predict {} --model x --out {}", "bids {} {} x"],
)
def test_places_that_cannot_be_are_said_before_anything_heavy_is_imported(command: str, tmp_path) -> None:
    file, gone = tmp_path / "file", tmp_path / "gone"
    file.touch()
    for places, said in (
        ((gone, tmp_path / "out"), f"{gone}: no such file or folder"),
        ((tmp_path, file / "out"), f"{file / 'out'}: cannot be written ({file} is no folder)"),
    ):
        done = alone(command.format(*places).split())
        assert (done.returncode, done.stdout, done.stderr) == (3, "", f"cgckit: {said}\n\n")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def complete(words: str) -> list[str]:
    """What the shell offers for the last of some words."""
    done = alone([], _CGCKIT_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(words.count(" ")))
    assert (done.returncode, done.stderr) == (0, "\n")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("cgckit re", {"refine", "report"}),
        ("cgckit plugins ", {"list", "show", "check", "new"}),
        ("cgckit refine --prior-", {"--prior-option"}),
        ("cgckit refine --prior mum", {"mumford-shah", "mumford-shah-net"}),
        ("cgckit refine --brain hd", {"hd-bet"}),
        ("cgckit refine --registration ri", {"rigid"}),
        ("cgckit evaluate --metric di", {"dice"}),
    ],
)
def test_the_shell_completes_commands_options_and_names(words: str, offered: set[str]) -> None:
    assert set(complete(words)) == offered


def test_completion_is_in_the_help_of_the_program_alone(cgckit) -> None:
    assert "--install-completion" in cgckit("--help").out
    assert "completion" not in cgckit("refine", "--help").out
