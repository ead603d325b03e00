"""The plugin is in order: mtcore takes it as it is."""

import mtopt_template.hooks
from mtcore.plugins import Registry


def test_every_hook_is_taken():
    Registry.load([mtopt_template.hooks], discover=False, strict=True)  # raises where anything is wrong
