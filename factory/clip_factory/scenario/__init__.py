"""The scenario file: one yes/no question about one set of photos, typed."""

from clip_factory.scenario.example import example, write_example
from clip_factory.scenario.schema import (
    Costs,
    Gate,
    Images,
    Labeling,
    Need,
    RegionMask,
    Scenario,
    Student,
    Target,
    Teacher,
    json_schema,
)
from clip_factory.scenario.yaml_files import anchored_region, dump, load, means_the_same, parse, stamped, validated

__all__ = [
    "Costs",
    "Gate",
    "Images",
    "Labeling",
    "Need",
    "RegionMask",
    "Scenario",
    "Student",
    "Target",
    "Teacher",
    "anchored_region",
    "dump",
    "example",
    "json_schema",
    "load",
    "means_the_same",
    "parse",
    "stamped",
    "validated",
    "write_example",
]
