"""Lets `feast` run inside this folder: Feast puts the folder on the path, and this makes it the package it is."""

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parent)]
