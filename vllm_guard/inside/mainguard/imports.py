"""Something to do when a module has been imported, in the main process or in a child."""

import sys


def when_imported(actions):
    """`actions`: name -> function of the module; called now where it is imported already."""
    for name, action in actions.items():
        if name in sys.modules:
            action(sys.modules[name])
    sys.meta_path.insert(0, _Finder(actions))


class _Finder:
    """Finds these modules on `sys.path`, as Python does."""

    def __init__(self, actions):
        self._actions = actions

    def find_spec(self, name, path=None, target=None):
        """The module's own spec, with a loader that also acts."""
        if name not in self._actions:
            return None
        from _frozen_importlib_external import PathFinder

        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            _act_after(spec.loader, self._actions[name])
        return spec


def _act_after(loader, action):
    """Have the spec's own loader act once it has loaded the module; it is then as it was."""
    load = loader.exec_module

    def exec_module(module):
        del loader.exec_module
        load(module)
        action(module)

    loader.exec_module = exec_module
