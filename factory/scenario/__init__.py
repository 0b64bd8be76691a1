"""The scenario file: one yes/no question about one set of photos, typed."""

from factory.scenario.example import example, write_example
from factory.scenario.files import dump, load, parse, validated
from factory.scenario.model import Costs, Gate, Images, Need, Scenario, Student, Target, Teacher, json_schema

__all__ = [
    "Costs",
    "Gate",
    "Images",
    "Need",
    "Scenario",
    "Student",
    "Target",
    "Teacher",
    "dump",
    "example",
    "json_schema",
    "load",
    "parse",
    "validated",
    "write_example",
]
