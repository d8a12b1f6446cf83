"""The plug-ins in `plugins/`, installed as anybody's package would be, and used from another process."""

from __future__ import annotations


def test_all_are_found_through_their_entry_points(cgckit, plugins):
    listed = cgckit("plugins", "list")
    assert listed.returncode == 0, listed.stderr
    for name, source in plugins.items():
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
        "from cgckit.priors.fusion import learns\n"
        "from cgckit.priors.resolve import prior_name, resolve_prior\n"
        "fusion = resolve_prior('flair-threshold+ae+gmm', ['flair-threshold.quantile=0.8', 'gmm.seed=3', 'latent=4'])\n"
        "print(prior_name(fusion), learns(fusion), *(type(m).__name__ for m in fusion.members))\n"
        "print(fusion.members[0].quantile, fusion.members[1].latent, fusion.members[2].seed)\n"
    )
    result = python("-c", program)
    assert result.stdout.splitlines() == [
        "flair-threshold+ae+gmm True FlairThresholdPrior AutoencoderPrior GaussianMixturePrior",
        "0.8 4 3",
    ], result.stderr


def test_the_plugins_own_tests_pass(python, plugins):
    """Among them `check_prior` and `check_metric`."""
    folders = [str(source / "tests") for source in plugins.values()]
    result = python("-m", "pytest", "-q", "-p", "no:cacheprovider", *folders)
    assert result.returncode == 0, result.stdout
