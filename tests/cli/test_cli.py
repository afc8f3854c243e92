"""The command line: help, exit codes, JSON, and what it prints for people."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pyarrow.parquet as pq
import pytest
from conftest_cli import PROJECT, SMALL, Scene, call, done, report

import ztfmatch
from ztfmatch.cli import main
from ztfmatch.cli.common import Size, size_text
from ztfmatch.schema import TABLES

COMMANDS = sorted(main.commands)
RESOURCES = ("append", "demo", "init", "statistics", "verify")
