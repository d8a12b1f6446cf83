"""Names become priors; broken or clashing plug-ins are reported and break nothing else."""

from __future__ import annotations

import json
import pickle
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from cgckit.errors import PluginError, UsageError
from cgckit.images.brain import BRAINS, resolve_brain
from cgckit.priors.base import PRIORS, Prior
from cgckit.priors.external import ExternalPrior
from cgckit.priors.fusion import FusionPrior
from cgckit.priors.resolve import prior_identity, prior_name, register_prior, resolve_prior

BUILT_IN = {"gmm", "mask", "mumford-shah"}

GOOD = """
    from dataclasses import dataclass
    from cgckit import Prior

    @dataclass
    class Good(Prior):
        '''A good prior.'''
        scale: float = 1.0

        def predict(self, case):
            return case.brain.float()
"""


def forget() -> None:
    """Let the packages be looked for again."""
    for group in (PRIORS, BRAINS):
        group.found = {}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Make a package that registers priors, as far as the import system can tell."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    before = set(sys.modules)

    def install(package: str, names: dict[str, str], source: str, group: str = "cgckit.priors") -> None:
        module = package.replace("-", "_")
        (site / f"{module}.py").write_text(textwrap.dedent(source))
        metadata = site / f"{module}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {module}:{attribute}" for name, attribute in names.items()]
        (metadata / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]) + "\n")
        forget()

    yield install
    forget()
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(site) in str(sys.modules[name].__file__):
            del sys.modules[name]


@pytest.fixture
def at_run_time(monkeypatch):
    """Forget afterwards what a test registers."""
    monkeypatch.setattr(PRIORS, "at_run_time", {})


@dataclass
class Mine(Prior):
    """My own prior."""

    depth: int = 1
    scale: float = 1.0

    def predict(self, case):
        return case.brain.float()


def write_prior(folder: Path, name: str = "mine.py", source: str = GOOD) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(source))
    return file


# ---- what is installed


def test_built_in_priors_are_entry_points_like_any_other():
    priors = PRIORS.installed()
    assert set(priors) >= BUILT_IN
    for name in BUILT_IN:
        assert priors[name].error is None
        assert priors[name].package.startswith("cgckit ")
        assert priors[name].summary


def test_a_plugin_is_found_and_made(install):
    install("stranger-one", {"good": "Good"}, GOOD)
    entry = PRIORS.installed()["good"]
    assert (entry.package, entry.error, entry.summary) == ("stranger-one 1.0", None, "A good prior.")
    prior = resolve_prior("good", ["scale=2"])
    assert (type(prior).__name__, prior.scale) == ("Good", 2.0)
    assert prior_identity(prior)["package"] == "stranger-one 1.0"


@pytest.mark.parametrize(
    ("source", "attribute", "reason"),
    [
        ("import a_module_that_nobody_has", "Good", "ModuleNotFoundError: No module named 'a_module_that"),
        ("def broken(:", "Good", "SyntaxError"),
        ("raise SystemExit(3)", "Good", "SystemExit: 3"),
        ("raise ValueError", "Good", "ValueError"),
        (GOOD, "Missing", "AttributeError"),
        ("Good = 3", "Good", "is not a subclass of cgckit.Prior"),
        ("from cgckit import Prior\nclass Good(Prior): pass", "Good", "does not define predict"),
    ],
)
def test_a_broken_plugin_is_reported_and_breaks_no_other(install, source, attribute, reason):
    install("broken-one", {"broken": attribute}, source)
    install("stranger-one", {"good": "Good"}, GOOD)
    priors = PRIORS.installed()
    assert reason in priors["broken"].error
    assert "\n" not in priors["broken"].error
    assert priors["broken"].summary == ""
    assert priors["good"].error is None
    assert set(priors) >= BUILT_IN
    with pytest.raises(PluginError, match=r"broken-one 1\.0"):
        resolve_prior("broken")
    resolve_prior("good")


def test_listing_and_using_another_prior_does_not_import_a_plugin(install):
    install("broken-one", {"broken": "Good"}, "raise SystemExit('imported')")
    assert "broken" in PRIORS.installed()
    resolve_prior("mask:{subject}.nii")
    prior_identity(resolve_prior("mask:{subject}.nii"))
    assert "broken_one" not in sys.modules


def test_two_strangers_of_one_name_both_lose_it(install):
    install("stranger-one", {"good": "Good"}, GOOD)
    install("stranger-two", {"good": "Good"}, GOOD)
    with pytest.raises(PluginError, match=r"stranger-(one|two) 1\.0 registers the same name"):
        resolve_prior("good")


def test_a_built_in_prior_keeps_its_name(install):
    install("stranger-one", {"mask": "Good"}, GOOD)
    entry = PRIORS.installed()["mask"]
    assert entry.load() is ExternalPrior
    assert entry.ignored == ("stranger-one 1.0",)


@pytest.mark.parametrize("name", ["a+b", "mask:x", "x.py", "two words"])
def test_a_name_that_could_be_mistaken_cannot_be_used(install, name):
    install("stranger-one", {name: "Good"}, GOOD)
    # The metadata format itself may end the name early; what is left must not be usable either.
    strange = [entry for entry in PRIORS.installed().values() if entry.package == "stranger-one 1.0"]
    assert all(entry.error is not None for entry in strange)
    assert set(PRIORS.installed()) >= BUILT_IN


BRAIN = """
    from dataclasses import dataclass
    from typing import Annotated
    from cgckit import BrainExtractor
    from cgckit.options import at_least

    @dataclass
    class Good(BrainExtractor):
        '''A good extractor.'''
        level: Annotated[float, at_least(0)] = 1.0

        def extract(self, volumes):
            return next(iter(volumes.values())).array > self.level
"""


def test_brain_extractors_are_found_and_made_in_the_same_way(install):
    install("stranger-brain", {"good": "Good"}, BRAIN, group="cgckit.brains")
    install("broken-brain", {"broken": "Good"}, "raise SystemExit(3)", group="cgckit.brains")
    brains = BRAINS.installed()
    assert brains["coarse"].package.startswith("cgckit ")
    assert (brains["good"].error, brains["good"].summary) == (None, "A good extractor.")
    assert brains["broken"].error == "SystemExit: 3"
    assert "good" not in PRIORS.installed()
    made = resolve_brain("good", ["level=2"])
    assert (type(made).__name__, made.level) == ("Good", 2.0)
    assert BRAINS.identity(made)["package"] == "stranger-brain 1.0"
    with pytest.raises(UsageError, match="level: must be a number of 0 or more"):
        resolve_brain("good", ["level=-1"])
    with pytest.raises(UsageError, match="there is no brain extractor 'goood': did you mean good"):
        resolve_brain("goood")


def test_a_class_of_another_group_is_refused(install, tmp_path):
    install("stranger-one", {"good": "Good"}, GOOD, group="cgckit.brains")
    assert "is not a subclass of cgckit.BrainExtractor" in BRAINS.installed()["good"].error
    with pytest.raises(PluginError, match=r"is not a subclass of cgckit\.BrainExtractor"):
        resolve_brain(f"{write_prior(tmp_path)}:Good")


def test_a_constructor_that_leaves_the_interpreter_is_the_plugins_failure(tmp_path):
    leave = """
        def __post_init__(self):
            raise SystemExit(0)
    """
    with pytest.raises(PluginError, match="prior Good cannot be made: SystemExit: 0"):
        resolve_prior(f"{write_prior(tmp_path, source=GOOD + leave)}:Good")


# ---- run time


def test_a_class_is_registered_at_run_time(at_run_time):
    assert register_prior("mine")(Mine) is Mine
    assert isinstance(resolve_prior("mine", {"depth": 3}), Mine)
    assert prior_name(Mine()) == "mine"
    assert list(PRIORS.installed()) == sorted(PRIORS.installed())
    register_prior("mine")(Mine)  # as in a notebook's cell that is run again


@pytest.mark.parametrize("name", ["gmm", "mask"])
def test_a_taken_name_is_refused_at_run_time(at_run_time, name):
    with pytest.raises(UsageError, match=f"'{name}' is taken by cgckit"):
        register_prior(name)(Mine)


@pytest.mark.parametrize("name", ["", "a+b", "mask:x", "with space", "-dash"])
def test_an_impossible_name_is_refused_at_run_time(name):
    with pytest.raises(UsageError, match="letters, digits"):
        register_prior(name)


def test_what_is_no_prior_is_refused_at_run_time(at_run_time):
    with pytest.raises(PluginError, match="not a subclass"):
        register_prior("number")(int)
    assert "number" not in PRIORS.installed()


# ---- specifications


def test_an_unknown_name_lists_the_installed_and_suggests_the_closest():
    with pytest.raises(UsageError) as caught:
        resolve_prior("mumfordshah")
    message = str(caught.value)
    assert "did you mean mumford-shah?" in message
    assert all(name in message for name in BUILT_IN)
    assert "\n" not in message


def test_a_name_like_none_of_them_gets_no_suggestion():
    with pytest.raises(UsageError) as caught:
        resolve_prior("zzzzzzzz")
    assert "did you mean" not in str(caught.value)


def test_a_mask_pattern_may_hold_anything():
    prior = resolve_prior("mask:/data/a+b c/{subject}_x=1:2.nii.gz")
    assert prior == ExternalPrior(pattern="/data/a+b c/{subject}_x=1:2.nii.gz")


def test_a_class_of_a_file(tmp_path):
    file = write_prior(tmp_path / "a folder+more")
    prior = resolve_prior(f"{file}:Good", ["scale=3"])
    assert (type(prior).__name__, prior.scale, prior_name(prior)) == ("Good", 3.0, "Good")


def test_a_file_prior_keeps_its_identity_when_moved_and_changes_it_when_edited(tmp_path):
    first = prior_identity(resolve_prior(f"{write_prior(tmp_path / 'a')}:Good"))
    moved = prior_identity(resolve_prior(f"{write_prior(tmp_path / 'b')}:Good"))
    edited = prior_identity(resolve_prior(f"{write_prior(tmp_path / 'c', source=GOOD + '    # more')}:Good"))
    assert first == moved
    assert first != edited


def test_two_classes_of_a_file_are_of_one_module_so_that_both_can_be_sent_elsewhere(tmp_path):
    file = write_prior(tmp_path, source=textwrap.dedent(GOOD) + "\n\nclass Other(Good):\n    pass\n")
    first, second = (resolve_prior(f"{file}:{name}") for name in ("Good", "Other"))
    assert isinstance(second, type(first))
    assert type(pickle.loads(pickle.dumps(first))) is type(first)


@pytest.mark.parametrize(
    ("spec", "error", "reason"),
    [
        ("{tmp}/none.py:Good", UsageError, "there is no file"),
        ("{tmp}/mine.py:Bad", UsageError, "no Bad in the file; it has Good"),
        ("{tmp}/mine.py", UsageError, "say which class"),
        ("{tmp}/mine.py:dataclass", PluginError, "is not a subclass"),
        ("{tmp}/raises.py:Good", PluginError, "ZeroDivisionError"),
        ("", UsageError, "no name"),
        ("gmm+", UsageError, "no name"),
        ("+gmm", UsageError, "no name"),
        ("gmm+gmm", UsageError, "twice"),
        ("mask", UsageError, "needs a pattern"),
        ("mask:", UsageError, "needs a pattern"),
        ("mask:fixed.nii.gz", UsageError, r"\{subject\}"),
        ("gmm+unheard", UsageError, "unheard"),
    ],
)
def test_specifications_that_cannot_be_resolved(tmp_path, spec, error, reason):
    write_prior(tmp_path)
    write_prior(tmp_path, "raises.py", "1 / 0")
    with pytest.raises(error, match=reason) as caught:
        resolve_prior(spec.replace("{tmp}", str(tmp_path)))
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_run_is_not_left_among_the_modules(tmp_path):
    file = write_prior(tmp_path, "raises.py", "1 / 0")
    with pytest.raises(PluginError):
        resolve_prior(f"{file}:Good")
    assert not [name for name in sys.modules if name.startswith("cgckit_plugin_raises")]


def test_a_fusion_is_made_of_all_forms(tmp_path, at_run_time):
    register_prior("mine")(Mine)
    file = write_prior(tmp_path)
    fusion = resolve_prior(f"mine+mask:/a+b/{{subject}}.nii+{file}:Good")
    assert isinstance(fusion, FusionPrior)
    assert [type(member).__name__ for member in fusion.members] == ["Mine", "ExternalPrior", "Good"]
    assert prior_name(fusion) == "mine+mask+Good"


# ---- options


@pytest.fixture
def pair(tmp_path, at_run_time):
    """Two priors: both have `scale`, one has `depth`."""
    register_prior("mine")(Mine)
    return f"mine+{write_prior(tmp_path)}:Good"


def test_a_bare_key_goes_to_the_only_one_that_has_it(pair):
    mine, _ = resolve_prior(pair, ["depth=4"]).members
    assert mine.depth == 4


def test_an_addressed_key_goes_to_the_one_it_names(pair):
    mine, good = resolve_prior(pair, ["Good.scale=2", "mine.scale=3"]).members
    assert (mine.scale, good.scale) == (3.0, 2.0)


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("scale=2", "could be meant for mine and .*Good"),
        ("width=2", "none of mine, Good has it"),
        ("other.scale=2", "is called other"),
        ("mine.width=2", "prior mine: there is no option 'width'"),
        ("depth=deep", "prior mine: depth: 'deep' is not a whole number"),
        ("depth", "KEY=VALUE"),
        ("=2", "KEY=VALUE"),
    ],
)
def test_options_of_a_fusion_that_cannot_be_placed(pair, option, reason):
    with pytest.raises(UsageError, match=reason):
        resolve_prior(pair, [option])


def test_an_option_given_twice_is_refused(pair):
    with pytest.raises(UsageError, match="twice"):
        resolve_prior(pair, ["depth=1", "depth=2"])
    with pytest.raises(UsageError, match="twice"):
        resolve_prior(pair, ["depth=1", "mine.depth=2"])
    with pytest.raises(UsageError, match="twice"):
        resolve_prior("mask:{subject}.nii", ["pattern=x"])


def test_an_unknown_option_lists_that_priors_options(at_run_time):
    register_prior("mine")(Mine)
    with pytest.raises(UsageError, match=r"depth \(whole number, default 1\), scale \(number, default 1\.0\)"):
        resolve_prior("mine", ["deep=1"])


def test_dashes_in_keys_are_underscores():
    gmm = resolve_prior("gmm", ["max-components=6"])
    assert gmm.max_components == 6


def test_a_constructors_complaint_is_the_users_mistake(tmp_path):
    check = """
        def __post_init__(self):
            if self.scale < 0:
                raise ValueError("scale below 0")
    """
    file = write_prior(tmp_path, source=GOOD + check)
    with pytest.raises(UsageError, match="prior Good: scale below 0"):
        resolve_prior(f"{file}:Good", ["scale=-1"])


# ---- identity


def test_identity_is_json_and_follows_the_options():
    first, second = (prior_identity(resolve_prior("gmm", [f"seed={seed}"])) for seed in (0, 1))
    assert json.loads(json.dumps(first)) == first
    assert first["options"]["seed"] == 0
    assert first != second
    assert {**second, "options": first["options"]} == first


def test_identity_of_a_fusion_holds_its_members():
    identity = prior_identity(resolve_prior("gmm+mask:{subject}.nii"))
    json.dumps(identity)
    assert [member["name"] for member in identity["options"]["members"]] == ["gmm", "mask"]


def test_a_class_from_nowhere_has_an_identity():
    namespace = {"Prior": Prior, "__name__": "nowhere"}
    exec("class Typed(Prior):\n    def predict(self, case): ...", namespace)
    identity = prior_identity(namespace["Typed"]())
    assert (identity["class"], identity["source"], identity["package"]) == ("nowhere:Typed", None, None)
