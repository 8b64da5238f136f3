"""Mitogen's linear strategy, from the environment that runs Ansible, so that ansible.cfg needs no path of a machine."""

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError

try:
    from ansible_mitogen import planner
    from ansible_mitogen.plugins.strategy.mitogen_linear import StrategyModule
except ImportError as error:
    raise AnsibleError(
        f"Mitogen is not in this environment ({error}): install ansible/requirements.txt, or go without it, "
        "some three times slower, with ANSIBLE_STRATEGY=linear"
    ) from error

DOCUMENTATION = """
name: mitogen_linear
short_description: the linear strategy over Mitogen
description: Runs each task on all hosts before the next, over one Python process kept on every host.
"""

__all__ = ["StrategyModule"]


def load_own_collection(invocation: Any) -> None:
    """Let Mitogen find the collection that a task's module lies in.

    Its own way goes through all of the hundred collections in the environment for every such task, a third of a second
    for each host, and warns of one without a version.
    """
    inside = Path(invocation.module_path).parents
    collection = next(folder for folder in inside if folder.parents[1].name == "ansible_collections")
    invocation._extra_sys_paths.add(str(collection))


planner._load_collections = load_own_collection
