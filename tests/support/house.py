"""The rooms of the house, from the roof down, and what a module imports: read from the code."""

from __future__ import annotations

import ast
from pathlib import Path

FLOORS = (
    {"__main__"},
    {"cli"},
    {"api"},
    {"run_tools", "zero_shot_tools"},
    {"call_arguments"},
    {"doctor"},
    {"demo", "model_lookup", "new_target", "run_request"},
    {"pipeline"},
    {"fingerprints", "registry", "review", "run_result", "serve"},
    {"evaluation", "zeroshot"},
    {"report"},
    {"gate"},
    {"exporters"},
    {"students"},
    {"label_sources"},
    {"encoders"},
    {"gold", "readiness", "scale", "seen_photos", "splits", "store"},
    {"labels"},
    {"images"},
    {"scenario"},
    {"http_server", "loader_table", "memory", "progress", "run_folder", "statistics"},
    {"errors", "terminal"},
    {"fault_report"},
    {"runtime"},
)
"""From the roof down; a room imports lower floors only. `run_request` may ask the pipeline nothing."""


def imports(path: Path) -> set[str]:
    return imported(ast.parse(path.read_text(encoding="utf-8")))


def imported(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names
