"""What a module refuses: each run of its ``tests/refusals.tftest.hcl``, and which rule said what.

`terraform test` itself tells only that some rule of an input refused. So each run is made once more,
without ``expect_failures``, where every rule that refuses says its line. Rules of inputs need no
provider: ``variables.tf`` alone is the module here.
"""

import json
import re
import shutil
from collections import defaultdict
from dataclasses import dataclass

from cmzon_secrets.durations import parse_duration
from servers.terraform import Terraform, binary

_RULE = re.compile(
    r"(.*?)\s*This was checked by the validation rule at variables\.tf:(\d+),", re.DOTALL
)


@dataclass(frozen=True)
class Refused:
    """One run: the inputs that it expects to refuse, and ``(line of the rule, message)`` of all that did."""

    run: str
    expected: frozenset
    told: tuple

    @property
    def inputs(self):
        return frozenset(message.partition(":")[0] for _, message in self.told)


def refusals(module, folder):
    """Every run of ``tests/refusals.tftest.hcl``, made in the empty ``folder``."""
    binary()
    shutil.copy(module / "variables.tf", folder)
    (folder / "tests").mkdir()
    text = (module / "tests" / "refusals.tftest.hcl").read_text(encoding="utf-8")
    header, *runs = re.split(r'^run "(\w+)" ', text, flags=re.MULTILINE)
    header = re.sub(r"^mock_provider .*\n", "", header, flags=re.MULTILINE)
    expected = {}
    for name, body in zip(runs[::2], runs[1::2], strict=True):
        given, _, expects = body.partition("expect_failures = ")
        expected[name] = frozenset(re.findall(r"\bvar\.(\w+)", expects))
        (folder / "tests" / f"{name}.tftest.hcl").write_text(f'{header}run "{name}" {given}}}\n')
    told = told_by(folder)
    return [Refused(name, expected[name], tuple(told[name])) for name in expected]


def told_by(folder):
    """The rules that refused, as ``(line, message)`` by the name of the run: of one `terraform test` that fails."""
    told = defaultdict(list)
    for line in Terraform(folder).test("-json", expect=1).out.splitlines():
        said = json.loads(line)
        if said["type"] == "diagnostic":
            rule = _RULE.match(said["diagnostic"]["detail"])
            assert rule, said["diagnostic"]
            told[said["@testrun"]].append((int(rule[2]), rule[1]))
    return told


def rules(module):
    """The lines of ``variables.tf`` at which a rule begins."""
    lines = (module / "variables.tf").read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, start=1) if line == "  validation {"}


def policies(file):
    """Every ``rotation`` that a file of tests gives, which holds nothing but durations."""
    given = re.findall(r"^ +rotation = \{(.*)\}$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return [
        {field: parse_duration(value) for field, value in re.findall(r'(\w+) = "(\w+)"', one)}
        for one in given
    ]
