"""A program that gives credentials, as ``credential_process`` of an AWS profile names one; it counts its runs."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s3server import KEY, SECRET, TOKEN

_PROGRAM = """
import json, pathlib, sys
place = pathlib.Path(sys.argv[1])
with (place / "runs").open("a") as runs:
    runs.write("run\\n")
answers = json.loads((place / "answers.json").read_text())
answer = answers[min(len((place / "runs").read_text().split()), len(answers)) - 1]
print(json.dumps(answer)) if isinstance(answer, dict) else sys.exit(answer)
"""


@dataclass(frozen=True)
class CredentialHelper:
    """What the program answers, run after run, and how often it ran."""

    place: Path

    def write_profile(self, name: str) -> Path:
        """Write the program, which gives credentials for an hour, and a configuration file with a profile of it."""
        self.place.mkdir()
        (self.place / "program.py").write_text(_PROGRAM)
        self.answer([60])
        config = self.place / "config"
        process = f"{sys.executable} {self.place / 'program.py'} {self.place}"
        config.write_text(f"[profile {name}]\nregion = us-east-1\ncredential_process = {process}\n")
        return config

    def answer(self, minutes: Sequence[float | str]) -> None:
        """Give credentials for so many minutes from now at each run, the last again and again; a text is a failure."""
        now = datetime.datetime.now(datetime.UTC)
        answers = [
            left if isinstance(left, str) else _credentials(run, now + datetime.timedelta(minutes=left))
            for run, left in enumerate(minutes, 1)
        ]
        (self.place / "answers.json").write_text(json.dumps(answers))
        (self.place / "runs").write_text("")

    @property
    def runs(self) -> int:
        """How often it ran since it was told what to answer."""
        return len((self.place / "runs").read_text().split())


def _credentials(run: int, until: datetime.datetime) -> dict[str, object]:
    key = KEY[: -len(str(run))] + str(run)
    return {
        "Version": 1,
        "AccessKeyId": key,
        "SecretAccessKey": SECRET,
        "SessionToken": TOKEN,
        "Expiration": until.isoformat(),
    }
