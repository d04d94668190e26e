"""`python -m dev.completion`: write every file of `completions/`."""

from __future__ import annotations

from . import writing

for path, text in writing.texts().items():
    path.write_text(text, encoding="utf-8")
