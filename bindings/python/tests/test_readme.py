import re

import pytest
from conftest import REPOSITORY, make_model

PAGES = [
    "README.md",
    "docs/compress.md",
    "docs/load.md",
    "docs/stay-compressed.md",
    "docs/sync.md",
    "docs/serve.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_examples_run_as_they_are_pasted(tmp_path, monkeypatch, page):
    import df11

    monkeypatch.chdir(tmp_path)
    if page != "README.md":
        model, _ = make_model("llama")
        model.save_pretrained("model")
        if page != "docs/serve.md" and page != "docs/compress.md":
            df11.compress("model", "packed")
    text = (REPOSITORY / "bindings" / "python" / page).read_text()
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert examples
    names = {}
    for example in examples:
        exec(compile(example, page, "exec"), names)
