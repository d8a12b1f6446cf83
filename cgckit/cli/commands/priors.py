"""`cgckit priors`: what is installed, what it can be told, and whether it keeps the contract."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="List the installed priors, show one, or check one's contract.\n\nExample: cgckit priors list",
)

_Options = Annotated[
    list[str] | None, typer.Option("--prior-option", metavar="KEY=VALUE", help="An option of the prior.")
]


@app.command("list")
def list_priors() -> None:
    """List every registered prior; one that cannot be used is listed with the reason.

    Example:

        cgckit priors list
    """

    from cgckit.cli.tables import show_table
    from cgckit.plugins.registry import installed_priors

    rows = []
    for name, entry in installed_priors().items():
        status = "ready" if entry.error is None else f"broken: {entry.error}"
        if entry.ignored:
            status += f" (the one of {', '.join(entry.ignored)} is ignored)"
        cells = {"prior": name, "summary": entry.summary, "package": entry.package, "status": status}
        rows.append(cells)
    show_table(rows, title="Priors; besides these, mask:PATTERN, FILE.py:Class and a+b")


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A registered prior, or FILE.py:Class.")],
) -> None:
    """Say what a prior does and which options it has.

    Example:

        cgckit priors show gmm
    """
    import inspect

    from rich.console import Console
    from rich.markup import escape

    from cgckit.cli.tables import show_table
    from cgckit.options.fields import options_of
    from cgckit.plugins.entries import summarise
    from cgckit.plugins.registry import find_class
    from cgckit.plugins.specification import Specification

    prior = find_class(Specification.read(name))
    console = Console(highlight=False)
    console.print(f"[bold]{escape(name)}[/bold]: {escape(summarise(prior))}\n")
    # The options have their table.
    description = (inspect.getdoc(prior) or "").partition("\nAttributes:")[0].strip()
    console.print(escape(description), soft_wrap=True)
    rows = [
        {
            "option": option.name,
            "type": option.type_name,
            "default": option.default_text,
            "meaning": option.doc,
        }
        for option in options_of(prior)
    ]
    if rows:
        console.print()
        show_table(rows, title="Options, given as --prior-option option=value")


@app.command()
def check(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A registered prior, or FILE.py:Class.")],
    prior_option: _Options = None,
) -> None:
    """Check that a prior keeps the contract, on small simulated subjects; exit code 5 if it does not.

    Example:

        cgckit priors check my_prior.py:MyPrior
    """

    from cgckit.cli.tables import show_table
    from cgckit.errors import PluginError
    from cgckit.plugins.registry import resolve_prior
    from cgckit.testing import check_rules

    resolve_prior(target, prior_option or ())  # an unknown name or option is no broken rule
    outcomes = list(check_rules(lambda: resolve_prior(target, prior_option or ())))
    rows = [
        {
            "rule": outcome.rule,
            "meaning": outcome.meaning,
            "outcome": "kept" if outcome.error is None else f"BROKEN: {outcome.error}",
        }
        for outcome in outcomes
    ]
    show_table(rows, title=f"Contract of {target}")
    broken = [outcome.rule for outcome in outcomes if outcome.error is not None]
    if broken:
        raise PluginError(f"prior {target} breaks the contract: {', '.join(broken)}")
