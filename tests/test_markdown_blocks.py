"""The extractor of code blocks."""

from __future__ import annotations

import pytest

from tests.markdown_blocks import Block, blocks_of, commands_of

PAGE = """\
Text with `code` and

```bash
velo ls   # all
```

1. a list
   ```python
   if True:
       x = 1
   ```

<!-- fails: 2 -->

```sh
velo oops
```
<!-- norun: needs a GPU -->
~~~~Python title
```
not a fence
~~~~
<!-- norun: this comment belongs to no block -->
text between
```
plain
```
```console
$ velo ls
name  state
$ velo best
```
"""


def test_a_page() -> None:
    assert blocks_of(PAGE) == [
        Block("bash", "velo ls   # all\n", 4),
        Block("python", "if True:\n    x = 1\n", 9),
        Block("sh", "velo oops\n", 16, status=2),
        Block("python", "```\nnot a fence\n", 20, norun="needs a GPU"),
        Block("", "plain\n", 26),
        Block("console", "velo ls\nvelo best\n", 29),
    ]


def test_a_page_without_blocks() -> None:
    assert blocks_of("# Title\n\n    indented\n") == []


@pytest.mark.parametrize("page", [
    "<!-- norun -->\n```bash\nvelo\n```\n",
    "<!-- norun: -->\n```bash\nvelo\n```\n",
    "<!-- fails: badly -->\n```bash\nvelo\n```\n",
    "<!-- fails: 0 -->\n```bash\nvelo\n```\n",
    "<!-- fails: 1 -->\n```python\nvelo\n```\n",
    "text\n```bash\nvelo\n",
])
def test_what_makes_no_sense_is_an_error_with_its_line(page: str) -> None:
    with pytest.raises(ValueError, match=r"line 2"):
        blocks_of(page)


def test_commands() -> None:
    code = "# first\nvelo sweep a.py \\\n    --trials 3\n\nvelo ls\n"
    assert commands_of(code) == ["velo sweep a.py --trials 3", "velo ls"]
