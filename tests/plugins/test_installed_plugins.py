"""The plug-ins in `plugins/`, installed as anybody's package would be, and used from another process."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = {
    "flair-threshold": ROOT / "plugins" / "cgckit-flair-threshold",
    "autoencoder": ROOT / "plugins" / "cgckit-autoencoder",
}


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """A folder with both plug-ins installed in it, without network and without touching the environment."""
    if importlib.util.find_spec("pip") is None:
        pytest.skip("pip is not in this environment")
    folder = tmp_path_factory.mktemp("site")
    sources = []
    for name, source in PLUGINS.items():
        # The build writes beside its source: it gets a copy.
        copy = tmp_path_factory.mktemp(name) / source.name
        subprocess.run(["cp", "-r", str(source), str(copy)], check=True)
        sources.append(str(copy))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--no-compile", "--target", str(folder), *sources], check=True, capture_output=True)
    return folder


@pytest.fixture
def python(site):
    """Run Python with the plug-ins on its path."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(site), str(ROOT)])
        return subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def cgckit(python):
    """Run the command line with the plug-ins on its path."""
    return lambda *arguments: python("-c", "from cgckit.cli.main import main; main()", *arguments)


def test_both_are_found_through_their_entry_points(cgckit):
    listed = cgckit("priors", "list")
    assert listed.returncode == 0, listed.stderr
    for name, source in PLUGINS.items():
        (row,) = [line for line in listed.stdout.splitlines() if f" {name} " in line]
        assert source.name in row
        assert "ready" in row


def test_an_installed_plugin_can_be_checked_by_name(cgckit):
    checked = cgckit("priors", "check", "flair-threshold")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "BROKEN" not in checked.stdout


def test_options_of_a_plugin_are_shown(cgckit):
    shown = cgckit("priors", "show", "flair-threshold")
    assert shown.returncode == 0, shown.stderr
    assert "quantile" in shown.stdout
    assert "0.9" in shown.stdout


def test_plugins_and_built_in_priors_can_be_fused(python):
    program = (
        "from cgckit.priors.registry import resolve_prior, prior_name\n"
        "fusion = resolve_prior('flair-threshold+autoencoder+gmm', ['quantile=0.8', 'gmm.seed=3', 'latent=4'])\n"
        "print(prior_name(fusion), fusion.requires_fit, *(type(m).__name__ for m in fusion.members))\n"
        "print(fusion.members[0].quantile, fusion.members[1].latent, fusion.members[2].seed)\n"
    )
    result = python("-c", program)
    assert result.stdout.splitlines() == [
        "flair-threshold+autoencoder+gmm True FlairThresholdPrior AutoencoderPrior GaussianMixturePrior",
        "0.8 4 3",
    ], result.stderr


def test_the_plugins_own_tests_pass(python):
    """Among them `check_prior` on both."""
    folders = [str(source / "tests") for source in PLUGINS.values()]
    result = python("-m", "pytest", "-q", "-p", "no:cacheprovider", *folders)
    assert result.returncode == 0, result.stdout
