"""Where a release comes from: an in-toto statement whose predicate is SLSA provenance, from the environment of a job.

https://in-toto.io/Statement/v1 and https://slsa.dev/provenance/v1 say what the fields mean. The statement goes into the
release itself, so that it lies wherever the release lies, and the release's signature covers it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from clip_factory import __version__

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD = "https://github.com/actions/runner/workflow"
"""What kind of build it is: a job of a workflow."""


def statement(outputs: Mapping[str, str], inputs: Mapping[str, str], commit: str, scenario: str) -> bytes:
    """The statement, as JSON.

    Args:
        outputs: File of the release -> hex sha256.
        inputs: File of the run that led to them -> hex sha256.
        commit: Hash of the commit whose scenario was run.
        scenario: Path of the scenario in the repository.
    """
    tree = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": sha256}} for name, sha256 in sorted(outputs.items())],
        "predicateType": PREDICATE,
        "predicate": {"buildDefinition": _definition(inputs, commit, scenario), "runDetails": _details()},
    }
    return (json.dumps(tree, indent=1, ensure_ascii=True, sort_keys=True) + "\n").encode()


def _definition(inputs: Mapping[str, str], commit: str, scenario: str) -> dict[str, Any]:
    source = {"uri": f"git+{_repository()}", "digest": {"gitCommit": commit}}
    materials = [{"name": name, "digest": {"sha256": sha256}} for name, sha256 in sorted(inputs.items())]
    return {
        "buildType": BUILD,
        "externalParameters": {"scenario": scenario, "repository": _repository(), "ref": _variable("GITHUB_REF")},
        "internalParameters": {
            "github": {"actor": _variable("GITHUB_ACTOR"), "event_name": _variable("GITHUB_EVENT_NAME")}
        },
        "resolvedDependencies": [source, *materials],
    }


def _details() -> dict[str, Any]:
    run, attempt = _variable("GITHUB_RUN_ID"), _variable("GITHUB_RUN_ATTEMPT") or "1"
    invocation = f"{_repository()}/actions/runs/{run}/attempts/{attempt}" if run else ""
    workflow = _variable("GITHUB_WORKFLOW_REF")
    server = _variable("GITHUB_SERVER_URL") or "https://github.com"
    return {
        "builder": {
            "id": f"{server}/{workflow}" if workflow else server,
            "version": {"clip-factory": __version__},
        },
        "metadata": {"invocationId": invocation},
    }


def _repository() -> str:
    return f"{_variable('GITHUB_SERVER_URL') or 'https://github.com'}/{_variable('GITHUB_REPOSITORY')}"


def _variable(name: str) -> str:
    return os.environ.get(name, "")
