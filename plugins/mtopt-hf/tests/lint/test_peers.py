"""Checkpoints that peers wrote: nothing is found for the clients that read them, and it is said who does not."""

import pytest

VLLM, TRT, HF, SGL = "vllm", "trtllm", "transformers", "sglang"

READ_BY = {
    # transformers 5.23
    "hf-llama": (VLLM, TRT, HF, SGL),
    "hf-llama-sharded": (VLLM, TRT, HF, SGL),
    "hf-llama-tied": (VLLM, TRT, HF, SGL),
    "hf-qwen3-moe": (VLLM, TRT, HF, SGL),
    # Model-Optimizer 0.47
    "mo-fp8": (VLLM, TRT, SGL),
    "mo-fp8-kv": (VLLM, TRT, SGL),
    "mo-fp8-moe": (VLLM, TRT, SGL),
    "mo-fp8-channel": (VLLM, TRT),
    "mo-fp8-blocks": (VLLM, TRT),
    "mo-int4-awq": (TRT,),
    "mo-int8-sq": (),
    "mo-nvfp4": (VLLM, TRT, SGL),
    "mo-nvfp4-kv": (VLLM, TRT, SGL),
    "mo-nvfp4-a16": (VLLM,),
    "mo-nvfp4-moe": (VLLM, TRT, SGL),
    "mo-mxfp8": (VLLM,),
    "mo-mxfp4": (),
    "mo-w4a8-awq": (TRT,),
    # llm-compressor 0.14
    "lc-fp8-dynamic": (VLLM, TRT, HF, SGL),
    "lc-fp8-blocks": (VLLM, TRT, HF, SGL),
    "lc-fp8": (VLLM, HF, SGL),
    "lc-fp8-kv": (VLLM, HF, SGL),
    "lc-fp8-moe": (VLLM, TRT, HF, SGL),
    "lc-int8": (VLLM, HF, SGL),
    "lc-w4a16": (VLLM, HF, SGL),
    "lc-w4a16-asym": (VLLM, HF, SGL),
    "lc-w8a16": (VLLM, HF, SGL),
    "lc-nvfp4": (VLLM, TRT, HF, SGL),
    "lc-nvfp4-a16": (VLLM, HF, SGL),
    "lc-mxfp4": (VLLM, TRT, HF),
    "lc-mxfp8": (VLLM, HF),
    # compressed-tensors 0.20 alone
    "ct-fp8-dynamic": (VLLM, TRT, HF, SGL),
    "ct-fp8-blocks": (VLLM, TRT, HF, SGL),
    "ct-int8": (VLLM, HF, SGL),
    "ct-w4a16": (VLLM, HF, SGL),
    "ct-w4a16-asym": (VLLM, HF, SGL),
    "ct-w8a16": (VLLM, HF, SGL),
    "ct-nvfp4": (VLLM, TRT, HF, SGL),
    "ct-nvfp4-a16": (VLLM, HF, SGL),
    "ct-mxfp4": (VLLM, TRT, HF),
    "ct-mxfp8": (VLLM, HF),
}
"""Which clients read what a peer wrote, as their sources say."""


@pytest.mark.parametrize("name", [name for name, readers in READ_BY.items() if readers])
def test_no_error_and_no_warning_for_the_clients_that_read_it(peer, judge, tmp_path, name):
    report = judge(peer(name).write(tmp_path / "c"), *READ_BY[name])
    found = {finding.rule for finding in report.findings if finding.severity != "note"}
    assert found == ({"zero-points"} if name.endswith("-asym") else set())  # transformers needs an option for them


@pytest.mark.parametrize("name", READ_BY)
def test_the_format_is_the_only_complaint_to_the_others(peer, judge, tmp_path, name):
    others = [client for client in (VLLM, TRT, HF, SGL) if client not in READ_BY[name]]
    report = judge(peer(name).write(tmp_path / "c"), *others)
    rules = {finding.rule for finding in report.findings if finding.severity != "note"}
    assert rules <= {"client-refuses", "modelopt-silent"}
    unverified = {finding.rule for finding in report.findings if finding.severity == "note"}
    for client in others:
        assert not report.loads(client) or "client-unverified" in unverified


@pytest.mark.parametrize("name", ["mo-nvfp4", "lc-nvfp4", "lc-fp8-kv", "hf-qwen3-moe"])
def test_shards_change_nothing(peer, judge, tmp_path, name):
    whole, parts = judge(peer(name).write(tmp_path / "a")), judge(peer(name).write(tmp_path / "b", shards=3))
    assert whole.findings == parts.findings
    assert whole.readings == parts.readings


def test_it_says_what_a_client_takes_the_checkpoint_for(peer, judge, tmp_path):
    reading = judge(peer("mo-nvfp4").write(tmp_path / "c")).readings["vllm"]
    assert reading.format == "7 x NVFP4 (modelopt, config.json)"
    assert "Marlin" in reading.how
