"""NumPy 2.4 turns no array of one element into a number, which Triton 3.6's interpreter asks of a loop's bounds."""

import pytest
from triton.runtime import interpreter


@pytest.fixture(autouse=True)
def bounds_of_loops(monkeypatch):
    patch = interpreter._patch_lang_tensor

    def patched(tensor, scope):
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda number: number.handle.data.item())

    monkeypatch.setattr(interpreter, "_patch_lang_tensor", patched)
