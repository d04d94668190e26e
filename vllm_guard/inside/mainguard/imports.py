"""Something to do when a module has been imported, in the main process or in a child."""

import sys


def when_imported(actions):
    """`actions`: name -> function of the module; called now where it is imported already."""
    for name, action in actions.items():
        if name in sys.modules:
            action(sys.modules[name])
    sys.meta_path.insert(0, _Finder(actions))


class _Finder:
    """Finds these modules where Python does."""

    def __init__(self, actions):
        self._actions = actions

    def find_spec(self, name, path=None, target=None):
        """The module's own spec, with a loader that also acts."""
        if name not in self._actions:
            return None
        from _frozen_importlib_external import PathFinder

        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec, self._actions[name])
        return spec


class _Loader:
    """The loader of a spec; it acts once the module is loaded, and is then gone."""

    def __init__(self, spec, action):
        self._spec, self._loader, self._action = spec, spec.loader, action

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        self._spec.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._action(module)
