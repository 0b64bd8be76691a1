"""The scenario file: one yes/no question about one set of photos, typed."""

from factory.scenario.example import example, write_example
from factory.scenario.files import dump, load, parse
from factory.scenario.model import Gate, Images, Scenario, Student, Teacher, json_schema

__all__ = [
    "Gate",
    "Images",
    "Scenario",
    "Student",
    "Teacher",
    "dump",
    "example",
    "json_schema",
    "load",
    "parse",
    "write_example",
]
