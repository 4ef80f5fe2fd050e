#!/usr/bin/env python3
"""Extracts the programs that the authors of a package show in its documentation.

    blocks.py FILE.md FOLDER    writes each block of TypeScript or JavaScript that imports something as FOLDER/NN.mts

NN is the number of the block among all of the file, in its order.
"""

import re
import sys
from pathlib import Path

text = Path(sys.argv[1]).read_text()
folder = Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
for number, block in enumerate(re.findall(r"^```(?:ts|tsx|js)\b[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL), 1):
    if re.search(r"^import ", block, re.MULTILINE):
        (folder / f"{number:02}.mts").write_text(block)
