"""Code from outside this repository, named as `package.module:Class`."""

import importlib
import site
from pathlib import Path
from types import ModuleType

from datasets.errors import InputError, one_line


def import_module_of(name: str, where: str) -> ModuleType:
    """The module of `package.module:Class`, imported.

    Args:
        name: the path; a class may be inside another class, as `module:Outer.Inner`.
        where: the start of error messages, such as the flag with the name.

    Raises:
        InputError: the name is not such a path, or the module cannot be imported.
    """
    path, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*path.split("."), *attribute.split("."))):
        raise InputError(f"{where}: name your own class as package.module:Class")
    try:
        return importlib.import_module(path)
    except (Exception, SystemExit) as error:  # the code is not ours and may raise anything
        raise InputError(
            f"{where}: {path} cannot be imported ({type(error).__name__}: {one_line(error)}); is its folder on "
            "PYTHONPATH?"
        ) from error


def import_root(module: ModuleType) -> Path | None:
    """The folder that must be on `sys.path` so that another process can import the module.

    None for a module of an installed package, which every process of the same Python can import.
    """
    file = Path(module.__file__ or "").resolve()
    root = file.parents[module.__name__.count(".") + (file.name == "__init__.py")]
    installed = {Path(folder).resolve() for folder in (*site.getsitepackages(), site.getusersitepackages())}
    return None if root in installed else root
