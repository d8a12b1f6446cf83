"""Plug-ins: classes that other packages bring, found through entry points, one `Group` for each kind."""

from cgckit.plugins.blame import blame, describe_error
from cgckit.plugins.group import Group, Plugin
from cgckit.plugins.loading import NAME, split_file
from cgckit.plugins.registered import Registered

__all__ = ["NAME", "Group", "Plugin", "Registered", "blame", "describe_error", "split_file"]
