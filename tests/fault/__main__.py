"""`just fault KIND …`: every module here that has a `main` is a kind of fault, and its first line says which."""

import importlib
import pkgutil
import sys
from types import ModuleType

import tests.fault


def kinds() -> dict[str, ModuleType]:
    """Return what can be made to fail, by the word that asks for it: `disk-full` for disk_full.py."""
    modules = [
        importlib.import_module(f"tests.fault.{found.name}")
        for found in pkgutil.iter_modules(tests.fault.__path__)
        if found.name != "__main__"
    ]
    return {
        module.__name__.rpartition(".")[2].replace("_", "-"): module
        for module in modules
        if hasattr(module, "main")
    }


def main() -> int:
    """Hand over to the kind that is asked for; without one, list them."""
    known = kinds()
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word in known:
        sys.argv = [f"just fault {word}", *sys.argv[2:]]
        return int(known[word].main())
    print("usage: just fault KIND [options]; --help after a kind tells its options\n")
    for name, module in known.items():
        print(f"  {name:10} {(module.__doc__ or '').splitlines()[0]}")
    if word in {"", "-h", "--help"}:
        return 0
    print(f"\nno kind of fault is called {word}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
