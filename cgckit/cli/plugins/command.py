"""`cgckit plugins`: what is installed, what it can be told, whether it keeps its contract, and a start for a new one.

`cgckit priors` is the same for priors alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cgckit.cli import options
from cgckit.cli.plugins.new import new

if TYPE_CHECKING:
    from cgckit.plugins import Group, Registered
    from cgckit.testing import Verdict

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "List the installed priors, brain extractors, registrations and metrics, show or check one, or begin a new "
        "one.\n\n"
        "Example: cgckit plugins list"
    ),
)
priors_app = typer.Typer(
    no_args_is_help=True,
    help="`cgckit plugins` for the priors alone: list, show, check.\n\nExample: cgckit priors list",
)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="A registered name, or FILE.py:Class.")]
_GroupName = Annotated[
    str | None, typer.Option("--group", metavar="GROUP", help="priors, brains, registrations or metrics.")
]
_Options = Annotated[
    list[str] | None, typer.Option("--option", "--prior-option", metavar="KEY=VALUE", help="One of its options.")
]


class _Kind(NamedTuple):
    """One group, as the commands need it."""

    group: Group[Any]
    title: str
    flag: str
    rules: Callable[[Callable[[], Any]], Iterator[Verdict]]
    says: Callable[[Registered[Any]], dict[str, str]] = lambda _: {}


app.command()(new)


@app.command("list")
def list_plugins(group: _GroupName = None, verbose: options.Verbose = False) -> None:
    """List every registered plug-in; one that cannot be used is listed with the reason.

    Examples:

        cgckit plugins list

        cgckit plugins list --group brains
    """
    for kind in _kinds(group).values():
        _list(kind)


@app.command()
def show(name: _Name, group: _GroupName = None, verbose: options.Verbose = False) -> None:
    """Say what a plug-in does and which options it has.

    Examples:

        cgckit plugins show gmm

        cgckit plugins show coarse --group brains
    """
    _show(*_find(name, _kinds(group)))


@app.command()
def check(name: _Name, group: _GroupName = None, option: _Options = None, verbose: options.Verbose = False) -> None:
    """Check that a plug-in keeps its contract, on small simulated inputs; exit code 5 if it does not.

    Examples:

        cgckit plugins check coarse

        cgckit plugins check my_brain.py:MyBrain --option radius=3
    """
    kind, _ = _find(name, _kinds(group))
    _check(kind, name, option or [])


@priors_app.command("list")
def list_priors(verbose: options.Verbose = False) -> None:
    """List every registered prior with its kind, needs and cost; one that cannot be used with the reason.

    Example:

        cgckit priors list
    """
    _list(_kinds("priors")["priors"])


@priors_app.command("show")
def show_prior(name: _Name, verbose: options.Verbose = False) -> None:
    """Say what a prior does and which options it has.

    Example:

        cgckit priors show gmm
    """
    _show(*_find(name, _kinds("priors")))


@priors_app.command("check")
def check_prior(name: _Name, option: _Options = None, verbose: options.Verbose = False) -> None:
    """Check that a prior keeps the contract, on small simulated subjects; exit code 5 if it does not.

    Example:

        cgckit priors check my_prior.py:MyPrior
    """
    _check(_kinds("priors")["priors"], name, option or [])


def _kinds(only: str | None) -> dict[str, _Kind]:
    """All groups, or the one that is asked for."""
    from cgckit.errors import UsageError
    from cgckit.evaluation import METRICS
    from cgckit.images.brain import BRAINS
    from cgckit.images.registration import REGISTRATIONS
    from cgckit.priors.base import PRIORS
    from cgckit.testing.brains import brain_rules
    from cgckit.testing.metrics import metric_rules
    from cgckit.testing.priors import prior_rules
    from cgckit.testing.registrations import registration_rules

    forms = "besides these, mask:PATTERN, FILE.py:Class and a+b"
    kinds = {
        "priors": _Kind(PRIORS, f"Priors; {forms}", "--prior-option", prior_rules, _prior_says),
        "brains": _Kind(BRAINS, "Brain extractors; besides these, FILE.py:Class", "--brain-option", brain_rules),
        "registrations": _Kind(
            REGISTRATIONS, "Registrations; besides these, FILE.py:Class", "--registration-option", registration_rules
        ),
        "metrics": _Kind(METRICS, "Metrics", "--metric-option", metric_rules),
    }
    if only is not None and only not in kinds:
        raise UsageError(f"there is no group {only!r}: choose {', '.join(kinds)}")
    return kinds if only is None else {only: kinds[only]}


def _find(name: str, kinds: dict[str, _Kind]) -> tuple[_Kind, type]:
    """The group that a name or `FILE.py:Class` belongs to, and its class."""
    from cgckit.errors import PluginError, UsageError
    from cgckit.plugins import split_file

    if len(kinds) == 1:
        (kind,) = kinds.values()
        return kind, kind.group.load(name)
    if split_file(name) is None:
        found = [kind for kind in kinds.values() if name in kind.group.installed()]
        if len(found) == 1:
            return found[0], found[0].group.load(name)
        if found:
            raise UsageError(f"{name} is the name of several plug-ins: say which with --group")
        names = ", ".join(other for kind in kinds.values() for other in kind.group.installed())
        raise UsageError(f"there is no plug-in {name!r}: installed are {names}; or give FILE.py:Class")
    errors = []
    for kind in kinds.values():
        try:
            return kind, kind.group.load(name)
        except PluginError as error:
            errors.append(str(error))
    raise PluginError("; ".join(dict.fromkeys(errors)))


def _list(kind: _Kind) -> None:
    from cgckit.cli.tables import show_table

    rows = [
        {
            kind.group.noun: name,
            "summary": entry.summary,
            **kind.says(entry),
            "package": entry.package,
            "status": _status(entry),
        }
        for name, entry in kind.group.installed().items()
    ]
    show_table(rows, title=kind.title)


def _prior_says(entry: Registered[Any]) -> dict[str, str]:
    """What priors say of themselves besides: their kind, the modalities they need one of, their cost."""
    from cgckit.plugins import describe_error
    from cgckit.priors.base import declaration_faults
    from cgckit.priors.fusion import learns

    cells = dict.fromkeys(("kind", "needs one of", "cost on a CPU"), "")
    if entry.error is not None:
        return cells
    found = entry.load()
    try:
        faults = declaration_faults(found)
        said = "learns from the cohort" if learns(found) else "for one subject"
        values = (said, *faults[:1]) if faults else (said, ", ".join(found.needs) or "any", found.cost)
    except Exception as error:  # what a class says of itself may be code of its own
        values = (describe_error(error),)
    return {**cells, **dict(zip(cells, values, strict=False))}


def _status(entry: Registered[Any]) -> str:
    status = "ready" if entry.error is None else f"broken: {entry.error}"
    return status + (f" (the one of {', '.join(entry.ignored)} is ignored)" if entry.ignored else "")


def _show(kind: _Kind, found: type) -> None:
    import inspect

    from rich.console import Console
    from rich.markup import escape

    from cgckit.cli.tables import show_table
    from cgckit.options import options_of
    from cgckit.plugins.registered import summarise

    entry = kind.group.registration(found)
    console = Console(highlight=False)
    console.print(f"[bold]{escape(entry.name if entry else found.__name__)}[/bold]: {escape(summarise(found))}\n")
    # The options have their table.
    description = (inspect.getdoc(found) or "").partition("\nAttributes:")[0].strip()
    console.print(escape(description), soft_wrap=True)
    if needs := getattr(found, "needs", ()):
        console.print(f"\nIt needs images of one of: {escape(', '.join(needs))}.", soft_wrap=True)
    rows = [
        {"option": option.name, "type": option.type_name, "default": option.default_text, "meaning": option.doc}
        for option in options_of(found)
    ]
    if rows:
        console.print()
        show_table(rows, title=f"Options, given as {kind.flag} option=value")


def _check(kind: _Kind, name: str, words: list[str]) -> None:
    from cgckit.cli.tables import show_table
    from cgckit.errors import PluginError

    def make() -> Any:
        return kind.group.resolve(name, words)

    make()  # an unknown name or option is no broken rule
    verdicts = list(kind.rules(make))
    rows = [
        {
            "rule": verdict.rule,
            "meaning": verdict.meaning,
            "outcome": "kept" if verdict.error is None else f"BROKEN: {verdict.error}",
        }
        for verdict in verdicts
    ]
    show_table(rows, title=f"Contract of {name}")
    broken = [verdict.rule for verdict in verdicts if verdict.error is not None]
    if broken:
        raise PluginError(f"{kind.group.noun} {name} breaks the contract: {', '.join(broken)}")
