"""Progress bars where rich believes that it is in a notebook."""

from __future__ import annotations

import importlib.util
import warnings

import pytest

from cgckit.jobs.console import bars_console, progress_bars


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook without ipywidgets, of which rich warns at each bar."""
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    find = importlib.util.find_spec
    monkeypatch.setattr("cgckit.jobs.console.find_spec", lambda name: None if name == "ipywidgets" else find(name))


def test_bars_in_a_notebook_warn_of_nothing(notebook: None, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with progress_bars(True) as bars:
            bars.advance(bars.add_task("priors", total=1, note=""))
    assert "priors" in capsys.readouterr().err


def test_with_ipywidgets_bars_are_those_of_a_notebook(notebook: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not bars_console().is_jupyter
    monkeypatch.setattr("cgckit.jobs.console.find_spec", lambda name: object())
    assert bars_console().is_jupyter
