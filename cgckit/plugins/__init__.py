"""Plug-ins: classes that other packages bring, found through entry points, one `Group` for each kind."""

from cgckit.plugins.group import Group, Plugin
from cgckit.plugins.loading import NAME, describe_error, split_file
from cgckit.plugins.registered import Registered

__all__ = ["NAME", "Group", "Plugin", "Registered", "describe_error", "split_file"]
