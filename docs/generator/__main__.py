"""`python -m docs.generator` writes everything that the documentation takes from the code."""

from docs.generator import contents

for path, text in contents().items():
    path.write_text(text, "utf-8")
