"""The shape of a package: lines by room, the longest chain of imports, base names that occur twice.

    python benchmarks/rooms.py factory/clip_factory [ANOTHER_SOURCE_ROOT ...]

A room is a folder of the package, or a module beside the folders. Imports count where they are done on import: those
inside a function, or for type checking alone, do not.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path


def modules(root: Path) -> dict[str, Path]:
    """Files of the package whose folder is `root`, by dotted name."""
    if not root.is_dir():
        raise SystemExit(f"{root}: no such folder")
    files = {}
    for path in sorted(root.rglob("*.py")):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


def statements(tree: ast.AST) -> Iterator[ast.stmt]:
    """All statements that run on import."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.stmt):
            yield node
        yield from statements(node)


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """The package's own modules that a file imports."""
    names: set[str] = set()
    for node in statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (inside & known.keys()) or {node.module}
    return {name for name in names if name in known and known[name] != path}


def longest_chain(graph: dict[str, set[str]]) -> tuple[list[str], list[tuple[str, str]]]:
    """The longest path of imports, and the imports that close a cycle, which it does not follow."""
    paths: dict[str, list[str]] = {}
    cycles: list[tuple[str, str]] = []

    def path_from(name: str, above: tuple[str, ...]) -> list[str]:
        if name not in paths:
            below: list[list[str]] = []
            for other in sorted(graph[name]):
                if other in (*above, name):
                    cycles.append((name, other))
                else:
                    below.append(path_from(other, (*above, name)))
            paths[name] = [name, *max(below, key=len, default=[])]
        return paths[name]

    return max((path_from(name, ()) for name in sorted(graph)), key=len, default=[]), cycles


def print_shape(root: Path) -> None:
    """Print it for one package."""
    known = modules(root)
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in known.items()}
    rooms: Counter[str] = Counter()
    for name, path in known.items():
        rooms[path.relative_to(root).parts[0].removesuffix(".py")] += lines[name]
    chain, cycles = longest_chain({name: imports(path, known) for name, path in known.items()})
    stems = Counter(path.stem for path in known.values() if not path.stem.startswith("__"))
    print(f"{root}: {len(known)} modules, {sum(lines.values()):,} lines, the longest {max(lines.values())}")
    for room, count in rooms.most_common():
        print(f"  {count:6,}  {room}")
    print(f"longest import chain: {len(chain)} modules\n  {' > '.join(chain)}")
    print(f"imports that close a cycle: {len(cycles)} {cycles or ''}")
    print(f"base names that occur twice: {sorted(stem for stem, count in stems.items() if count > 1) or 'none'}\n")


def main() -> None:
    """Print the shape of every package named."""
    for root in sys.argv[1:] or ["factory/clip_factory"]:
        print_shape(Path(root))


if __name__ == "__main__":
    main()
