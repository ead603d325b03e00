"""`mtopt formats`."""

import json


def test_every_format_is_listed_with_its_bits(registry, mtopt):
    shown = mtopt("formats").out
    assert all(name in shown for name in registry.formats)
    assert "4.5" in shown


def test_json_tells_elements_scales_and_bits(registry, mtopt):
    formats = {fmt["name"]: fmt for fmt in json.loads(mtopt("formats", "--json").out)}
    assert formats["nvfp4"]["scales"] == [
        {"element": "e4m3fn", "block": "1x16"},
        {"element": "fp32", "block": "tensor"},
    ]
    assert formats["nvfp4"]["bits_per_element"] == 4.5
    assert formats["int8"]["symmetric"] is True
