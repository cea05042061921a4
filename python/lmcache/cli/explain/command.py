# SPDX-License-Identifier: Apache-2.0
"""The command: a request by its name, the latest ones, or a prompt as the segment holds it now."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from lmcache import _native
from lmcache.cli.console import console, print_json
from lmcache.cli.explain.prompts import explain_tokens, read_tokens, tokenize
from lmcache.cli.explain.requests import RequestHistory, summary
from lmcache.cli.explain.spaces import Space
from lmcache.cli.explain.tables import render_latest, render_prompt, render_request
from lmcache.cli.node import JsonOption, SegmentOption, chosen_path
from lmcache.errors import InvalidArgumentError, UnavailableError

app = typer.Typer(add_completion=False)


@app.command(help="Say why requests hit or missed.")
def explain(
    request_id: Annotated[
        str | None, typer.Argument(help="A request, as vLLM or its client names it.")
    ] = None,
    last: Annotated[int, typer.Option("--last", min=1, help="How many of the latest.")] = 20,
    tokens: Annotated[
        str | None,
        typer.Option("--tokens", help="A file with a JSON list of token ids; - = stdin."),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="A file with the text of a prompt; - = stdin.")
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option("--tokenizer", help="For --prompt; otherwise that of the model."),
    ] = None,
    namespace: Annotated[
        int | None,
        typer.Option("--namespace", help="Its number; otherwise that of the latest request."),
    ] = None,
    segment: SegmentOption = None,
    json: JsonOption = False,
) -> None:
    """Exit status 1 if there is no such segment or request."""
    if sum(given is not None for given in (request_id, tokens, prompt)) > 1:
        raise InvalidArgumentError("say one of REQUEST_ID, --tokens and --prompt")
    path = str(chosen_path(segment))
    try:
        status = _native.inspect_segment(path)
    except UnavailableError:
        _miss(json, {"exists": False, "path": path}, f"There is no segment {path}.")
    history = RequestHistory(path, status)
    if tokens is not None or prompt is not None:
        asked = _asked_space(history, namespace)
        ids = (
            read_tokens(tokens)
            if tokens is not None
            else tokenize(str(prompt), tokenizer or asked.model)
        )
        _explain_prompt(history, asked, ids, int(status["capacity_bytes"]), json)
    elif request_id is not None:
        _explain_request(history, request_id, json)
    else:
        _explain_latest(history, last, json)


def _explain_request(history: RequestHistory, request_id: str, json: bool) -> None:
    explained = history.named(request_id)
    if not explained:
        _miss(
            json,
            {"exists": True, "path": history.path, "requests": []},
            f"No request {request_id} among the latest {len(history)} of {history.path}: "
            "`lmcache explain` lists them.",
        )
    if json:
        print_json(_head(history) | {"requests": [one.as_dict() for one in explained]})
    else:
        console().print(render_request(explained))


def _explain_latest(history: RequestHistory, count: int, json: bool) -> None:
    explained = history.latest(count)
    together = summary(explained)
    if json:
        requests = [one.as_dict() for one in explained]
        print_json(_head(history) | {"summary": together, "requests": requests})
    elif explained:
        console().print(render_latest(explained, together))
    else:
        console().print(f"{escape(history.path)} knows of no request yet", soft_wrap=True)


def _explain_prompt(
    history: RequestHistory, asked: Space, ids: list[int], capacity_bytes: int, json: bool
) -> None:
    spaces = list(history.spaces.values())
    found = explain_tokens(history.path, ids, spaces, asked, capacity_bytes)
    if json:
        prompt = {"tokens": len(ids), "namespaces": [one.as_dict() for one in found]}
        print_json(_head(history) | {"prompt": prompt})
    else:
        console().print(render_prompt(found))


def _asked_space(history: RequestHistory, number: int | None) -> Space:
    """Return the namespace that a prompt is looked up in first. Raises `InvalidArgumentError`."""
    if number is not None and number not in history.spaces:
        known = ", ".join(f"{space.id}: {space.model}" for space in history.spaces.values())
        raise InvalidArgumentError(f"--namespace {number}: the segment has {known or 'none'}")
    if number is not None:
        return history.spaces[number]
    fullest = max(history.spaces.values(), key=lambda space: space.entries, default=None)
    asked = history.latest_space() or fullest
    if asked is None:
        raise UnavailableError(f"{history.path} has no namespace: nothing was looked up yet")
    return asked


def _head(history: RequestHistory) -> dict[str, Any]:
    return {"exists": True, "path": history.path}


def _miss(json: bool, answer: dict[str, Any], line: str) -> None:
    if json:
        print_json(answer)
    else:
        console().print(escape(line), soft_wrap=True)
    raise typer.Exit(1)
