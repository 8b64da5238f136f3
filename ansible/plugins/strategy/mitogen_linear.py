"""Mitogen's linear strategy, from the environment that runs Ansible, so that ansible.cfg needs no path of a machine."""

from ansible.errors import AnsibleError

try:
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
