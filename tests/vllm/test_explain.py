# SPDX-License-Identifier: Apache-2.0
"""`lmcache explain` about requests that a real vLLM served: each with the reason that is true."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CHUNK = 64
PROMPT = [3 + 7 * i % 1900 for i in range(4 * CHUNK + 10)]


@pytest.fixture(scope="module")
def llm(open_llm, segment):
    config = {"chunk_size": CHUNK, "segment": segment, "max_local_cpu_size": 0.032}
    return open_llm(block_size=32, enable_lmcache=True, lmcache_config=config)


@pytest.fixture
def serve(llm):
    """Return a function that serves a prompt and returns the name that vLLM gave the request."""

    def ask(prompt, **options):
        names = []
        scheduler = llm.core.scheduler
        original = scheduler.add_request
        scheduler.add_request = lambda request: (
            names.append(request.request_id),
            original(request),
        )
        try:
            answer = llm.ask_one(prompt, 2, **options)
        finally:
            scheduler.add_request = original
        llm.settle()
        return names[0], answer.cached_tokens

    return ask


@pytest.fixture
def explain(segment):
    """Return a function that runs the command and returns what it prints as JSON."""

    def run(*arguments, stdin=""):
        command = [sys.executable, "-m", "lmcache.cli", "explain", *arguments]
        done = subprocess.run(
            [*command, "--segment", segment, "--json"],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def request_of(explain):
    def read(name):
        (request,) = explain(name)["requests"]
        return request

    return read


def test_new_then_whole(serve, request_of, explain):
    name, cached = serve(PROMPT)
    assert cached == 0
    first = request_of(name)
    assert first["reason"]["code"] == "new"
    assert (first["loaded_tokens"], first["prompt_tokens"]) == (0, len(PROMPT))
    name, cached = serve(PROMPT)
    again = request_of(name)
    assert again["reason"]["code"] == "whole"
    assert again["loaded_tokens"] == cached > 0
    report = explain("--tokens", "-", stdin=json.dumps(PROMPT))["prompt"]["namespaces"][0]
    assert (report["found_tokens"], report["reason"]["code"]) == (len(PROMPT), "whole")


def test_a_prompt_that_parts(serve, request_of, explain):
    serve(PROMPT)
    parted = [*PROMPT[: CHUNK + 20], *range(1000, 1000 + CHUNK)]
    told = explain("--tokens", "-", stdin=json.dumps(parted))["prompt"]["namespaces"][0]
    assert told["found_tokens"] == CHUNK + 20
    assert "from token 84 on, in chunk 1 (tokens 64 to 127)" in told["reason"]["text"]
    name, _ = serve(parted)
    request = request_of(name)
    assert request["found_tokens"] == CHUNK + 20
    assert request["reason"]["code"] == "differs"
    assert "from token 84 on, in chunk 1 (tokens 64 to 127)" in request["reason"]["text"]


def test_another_salt(serve, request_of, explain):
    prompt = [5, *PROMPT]
    serve(prompt)
    name, cached = serve(prompt, salt="tenant-of-the-test")
    assert cached == 0
    reason = request_of(name)["reason"]
    assert reason["code"] == "other_namespace"
    assert "cache salt" in reason["text"]
    assert "tenant-of-the-test" not in json.dumps(explain())
    serve([6, *PROMPT])  # the latest request is of the plain namespace
    told = explain("--tokens", "-", stdin=json.dumps(prompt))["prompt"]["namespaces"]
    assert [one["found_tokens"] for one in told] == [len(prompt)] * 2
    assert [one["member"] for one in told[1]["differs_in"]] == ["salt_sha256"]


def test_a_text(llm, serve, explain, tiny_model):
    text = "The cache of a node is one memory segment that every process maps. " * 5
    tokens = llm.llm.get_tokenizer()(text)["input_ids"]
    serve(tokens)
    arguments = ("--prompt", "-", "--tokenizer", str(tiny_model))
    told = explain(*arguments, stdin=text)["prompt"]
    assert told["tokens"] == len(tokens)
    assert told["namespaces"][0]["found_tokens"] == len(tokens)


def test_one_token(serve, request_of):
    name, _ = serve([7])
    assert request_of(name)["reason"]["code"] == "skipped"


def test_prompt_logprobs_are_not_read_from_a_cache(serve, request_of):
    serve(PROMPT)
    name, cached = serve(PROMPT, prompt_logprobs=1)
    assert cached == 0
    assert request_of(name)["reason"]["code"] == "skipped"


def test_evicted(serve, request_of, explain):
    serve([8, *PROMPT])
    for number in range(60):  # 300 chunks of 256 kB; there is room for some 120
        serve([10 + number, *PROMPT])
    told = explain("--tokens", "-", stdin=json.dumps([8, *PROMPT]))["prompt"]["namespaces"][0]
    assert told["reason"]["code"] == "evicted"
    name, cached = serve([8, *PROMPT])
    assert cached == 0
    request = request_of(name)
    assert request["reason"]["code"] == "evicted"
    assert "max_local_cpu_size" in request["reason"]["advice"]


def test_the_engine_gave_up(llm, serve, request_of):
    llm.connector._scheduler.give_up("a test", RuntimeError("of the end"))
    name, _ = serve(PROMPT)
    reason = request_of(name)["reason"]
    assert reason["code"] == "off"
    assert "a test failed: of the end" in reason["text"]


def test_after_the_engine(llm, explain):
    """What it wrote down before it gave up is still there."""
    assert explain()["summary"]["requests"] == 20
